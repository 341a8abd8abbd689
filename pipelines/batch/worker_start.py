"""Starts a process of a batch on this machine; its imports take as long as the plan, so the first starts before it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cutray.engines.hardware import usable_cores

# The child finds our packages where we did; with -P none of the current folder, not even before this is read. Ctrl+C
# reaches all processes; the one that started this one ends it.
_START = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = json.loads(sys.argv[1]);"
    " from pipelines.batch.local_worker import main; main()"
)


def start_worker(device: str) -> subprocess.Popen[bytes]:
    """Start a process that imports what it needs, and then waits for a job on its standard input.

    Args:
        device: Where the network is to run: auto, cpu or cuda.
    """
    command = [sys.executable, "-P", "-c", _START, json.dumps([path for path in sys.path if isinstance(path, str)])]
    # As Ray does for actors without a GPU: every process would load a network of its own there.
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **hidden})


@contextmanager
def early_worker(device: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """Yield the first process of a batch that is still to be planned; it has ended when the block does.

    Args:
        device: Where the network is to run: auto, cpu or cuda.

    Yields:
        None on a machine with a single core, where it would only be in the way.
    """
    if usable_cores() < 2:
        yield None
        return
    popen = start_worker(device)
    try:
        yield popen
    finally:
        end_worker(popen)


def end_worker(popen: subprocess.Popen[bytes]) -> None:
    """End a process, whatever it is doing, and wait until it has gone."""
    popen.kill()
    popen.wait()
    for pipe in (popen.stdin, popen.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]  # both are pipes
