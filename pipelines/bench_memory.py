"""How much memory a program and all processes that it starts hold."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutray.errors import MissingExtraError

_LOOK_EVERY_S = 0.5


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


def run_watched(command: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run a program to its end and watch its memory, twice a second.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    peak = 0
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment)
    )
    while True:
        try:
            stdout, stderr = process.communicate(timeout=_LOOK_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, memory_of_tree(process.pid))
    return Run(process.returncode, time.perf_counter() - started, peak, stdout, stderr)


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
