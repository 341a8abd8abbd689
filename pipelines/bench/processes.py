"""Starts a server in processes of its own on a free port of this machine, and ends exactly what it started."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cutray.errors import EngineError

_START_S, _STOP_S = 600, 300
_TOLD_CHARACTERS = 2000


def free_port() -> int:
    """Return a port that nobody listens on now, away from those that Ray and the system hand out themselves.

    Raises:
        EngineError: All that were tried are taken.
    """
    for port in random.sample(range(20_000, 30_000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EngineError(got="50 ports of this machine are taken", fix="end some servers")


@contextmanager
def running(
    command: Sequence[str],
    ready_url: str,
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the block ends.

    Args:
        command: The program and its arguments.
        ready_url: Address that answers with 200 once the server takes requests.
        log: File for what it prints.
        environment: Its environment; this process's by default.
        folder: Its working folder; this process's by default.

    Yields:
        Its process.

    Raises:
        EngineError: It does not start; the message ends with what it printed last.
    """
    with log.open("w") as sink:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=sink, stderr=sink, text=True, start_new_session=True
        )
    try:
        _wait(process, ready_url, log)
        yield process
    finally:
        _end(process)


def _wait(process: subprocess.Popen[str], ready_url: str, log: Path) -> None:
    """Wait until the server takes requests."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(ready_url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise EngineError(
        got=f"the server did not start: {log.read_text()[-_TOLD_CHARACTERS:]}", fix="start it by hand to see why"
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to end, and if it does not, end it and what belongs to its session."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
