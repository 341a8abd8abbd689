"""Runs the real endpoint in processes of its own, on a free port, and ends exactly what it started."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from cutray.errors import EngineError
from pipelines.bench.processes import free_port
from pipelines.bench.processes import running as running_server

ROOT = Path(__file__).resolve().parents[1]
Process = subprocess.Popen[str]
PATIENCE_S = 300  # for what is waited for but not measured


def write_config(path: Path, **changes: Any) -> Path:
    """Write the local YAML with other limits or deployments, small enough for a busy machine.

    Args:
        path: Where to write it.
        changes: Arguments of the application; ``deployments`` maps a name to keys that differ.
    """
    config = yaml.safe_load((ROOT / "serve_apps" / "remover.local.yaml").read_text())
    application = config["applications"][0]
    for name, keys in changes.pop("deployments", {}).items():
        next(entry for entry in application["deployments"] if entry["name"] == name).update(keys)
    limits = changes.pop("limits", {})
    application["args"] |= {"metrics_port": free_port(), **changes}
    application["args"]["limits"] |= limits
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(config: Path, *arguments: str) -> Iterator[tuple[str, Process]]:
    """Run ``cutray serve`` until the block ends.

    Yields:
        The address, and the process.
    """
    port = free_port()
    command = [sys.executable, "-m", "cutray.cli", "serve", "--port", str(port), "--config", str(config), *arguments]
    address = f"http://127.0.0.1:{port}"
    log = config.with_suffix(".log")
    with contextlib.ExitStack() as stack:
        for left in (2, 1, 0):
            try:
                process = stack.enter_context(running_server(command, f"{address}/ready", log, folder=ROOT))
                break
            except EngineError as error:  # other tests start theirs at the same time
                if not left or "too busy" not in str(error):
                    raise
        yield address, process


def replicas(process: Process, name: str, application: str = "cutray:") -> list[int]:
    """Return the process ids of a deployment's replicas that belong to this endpoint."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may end while we look
            if f"ServeReplica:{application}{name}" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


class Load:
    """Sends photos one after the other within a block, and keeps every status."""

    def __init__(self, client: Any, jpeg: bytes) -> None:
        """Get ready to send."""
        self.answers: list[tuple[int, str]] = []
        self._stop = threading.Event()
        self._client = client
        self._threads = [threading.Thread(target=self._send, args=(jpeg,)) for _ in range(2)]

    def _send(self, jpeg: bytes) -> None:
        with httpx.Client(base_url=self._client.base_url, timeout=120, headers=self._client.headers) as own:
            while not self._stop.is_set():
                answer = own.post("/remove-background", files={"image": jpeg})
                self.answers.append((answer.status_code, answer.headers.get("x-model", answer.text)))

    def wait_for(self, enough: Callable[[list[tuple[int, str]]], bool]) -> None:
        """Wait until the answers are enough, however slow the machine is."""
        until = time.monotonic() + PATIENCE_S
        while not enough(self.answers):
            assert time.monotonic() < until, self.answers
            time.sleep(0.2)

    def __enter__(self) -> Load:
        """Start sending."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending, and wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
