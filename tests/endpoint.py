"""Runs the real endpoint in processes of its own, on a free port, and ends exactly what it started."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipelines.bench.processes import free_port
from pipelines.bench.processes import running as running_server

ROOT = Path(__file__).resolve().parents[1]
Process = subprocess.Popen[str]


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
    with running_server(command, f"{address}/ready", config.with_suffix(".log"), folder=ROOT) as process:
        yield address, process


def replicas(process: Process, name: str) -> list[int]:
    """Return the process ids of a deployment's replicas that belong to this endpoint."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may end while we look
            if f"ServeReplica:cutray:{name}" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found
