"""How much memory a program and all processes that it starts hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutray.errors import MissingExtraError


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of a program took.

    Attributes:
        returncode: Its exit code.
        seconds: From start to end.
        peak_bytes: Most memory that the process tree held at once.
        stdout: What it printed.
        stderr: What it told.
    """

    returncode: int
    seconds: float
    peak_bytes: int
    stdout: str
    stderr: str


def run_watched(command: Sequence[str], environment: Mapping[str, str], *, look_every_s: float = 2.0) -> Run:
    """Run a program to its end and watch its memory.

    Args:
        command: The program and its arguments.
        environment: All its variables.
        look_every_s: How often; a look at a dozen large processes takes some 50 ms, which the program could have used.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    peak = 0
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment)
    )
    soon = 0.5  # so that a short program is seen at all
    while True:
        try:
            stdout, stderr = process.communicate(timeout=min(look_every_s, soon))
            break
        except subprocess.TimeoutExpired:
            peak, soon = max(peak, memory_of_tree(process.pid)), look_every_s
    return Run(process.returncode, time.perf_counter() - started, peak, stdout, stderr)


@dataclass(slots=True)
class Memory:
    """The most memory that was seen, in bytes; known once the block is over."""

    peak_bytes: int = 0


@contextmanager
def memory_beside(pid: int | None) -> Iterator[Memory]:
    """Watch the memory of a process tree during the block, from a process of low priority.

    On a busy machine a look takes a good part of a second; a thread of the client would let its requests wait.

    Args:
        pid: Root of the tree, or None to watch nothing.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    memory = Memory()
    if pid is None:
        yield memory
        return
    memory.peak_bytes = memory_of_tree(pid)
    watcher = subprocess.Popen(
        [sys.executable, "-m", __name__, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield memory
    finally:
        told, _ = watcher.communicate()
    memory.peak_bytes = max(memory.peak_bytes, int(told or 0))


def _watch(pid: int) -> int:
    """Look every second until standard input ends; returns the most bytes seen."""
    if hasattr(os, "nice"):
        os.nice(10)
    over, peak = threading.Event(), 0

    def wait_for_the_end() -> None:
        os.read(0, 1)
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while True:
        peak = max(peak, memory_of_tree(pid))
        if over.wait(1.0):
            return peak


def memory_of_tree(pid: int) -> int:
    """Return the bytes that a process and its descendants hold.

    Pages that several processes share are divided among them where the system can tell (PSS on Linux); elsewhere each
    process counts them whole.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError(got="psutil is not installed", fix="run `pip install psutil`") from error

    def held(process: Any) -> int:
        try:
            return int(process.memory_full_info().pss)
        except (AttributeError, psutil.AccessDenied):
            return int(process.memory_info().rss)

    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += held(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total


def peak_memory(pid: int) -> int:
    """Return the most bytes that one process has held so far; 0 where the system does not tell (only Linux does)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    told = re.search(r"VmHWM:\s*(\d+)", status)
    return int(told[1]) << 10 if told else 0


if __name__ == "__main__":
    print(_watch(int(sys.argv[1])))
