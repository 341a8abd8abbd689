"""Runs the real endpoint in processes of its own, on a free port, and ends exactly what it started."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
_START_S, _STOP_S = 120, 90


def free_port() -> int:
    """Return a port that nobody listens on now, away from those that Ray and the system hand out themselves."""
    for port in random.sample(range(20_000, 30_000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def write_config(path: Path, **changes: Any) -> Path:
    """Write the local YAML with other limits or deployments, small enough for a busy machine.

    Args:
        path: Where to write it.
        changes: Arguments of the application; ``deployments`` maps a name to keys that differ.
    """
    plan = yaml.safe_load((ROOT / "serve_apps" / "remover.local.yaml").read_text())
    application = plan["applications"][0]
    for name, keys in changes.pop("deployments", {}).items():
        next(entry for entry in application["deployments"] if entry["name"] == name).update(keys)
    limits = changes.pop("limits", {})
    application["args"] |= {"metrics_port": free_port(), **changes}
    application["args"]["limits"] |= limits
    path.write_text(yaml.safe_dump(plan))
    return path


@contextmanager
def running(config: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``cutray serve`` until the block ends.

    Yields:
        The address, and the process.
    """
    port = free_port()
    command = [sys.executable, "-m", "cutray.cli", "serve", "--port", str(port), "--config", str(config), *arguments]
    log = config.with_suffix(".log")
    with log.open("w") as sink:
        process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink, text=True, start_new_session=True)
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def replicas(process: subprocess.Popen[str], name: str) -> list[int]:
    """Return the process ids of a deployment's replicas that belong to this endpoint."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may end while we look
            if f"ServeReplica:cutray:{name}" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def _wait(process: subprocess.Popen[str], port: int, log: Path) -> None:
    """Wait until the endpoint takes photos."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the endpoint did not start: {log.read_text()[-2000:]}")
