"""What the long tests of the endpoint share: a load beside the fault, and the page that their figures go to."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.bench.load import LoadStats, run_load
from pipelines.bench.memory import memory_of_tree
from tests.endpoint import Process, replicas

PAGE_VARIABLE = "CUTRAY_RELIABILITY_PAGE"
DEPLOYMENTS = ("Ingress", "Cutter", "Segmenter")
_HEAD = "| fault | requests | failed | p99 before, s | p99 during, s | recovery, s | memory before → most, MiB |"
_MIB = 1 << 20


@dataclass(slots=True)
class Drill:
    """One fault and what came of it: a row of docs/reliability.md.

    Attributes:
        fault: What was done, in the same words each time.
        requests: How many requests there were meanwhile.
        failed: How many of them had neither a result nor, where that is right, a refusal.
        before_s: 99th percentile without the fault, in seconds.
        during_s: The same with it.
        recovery_s: From the end of the fault to answers as fast as before.
        memory_bytes: What all processes held before, and at most.
        detail: How often or how long.
    """

    fault: str
    requests: int
    failed: int
    before_s: float | None = None
    during_s: float | None = None
    recovery_s: float | None = None
    memory_bytes: tuple[int, int] | None = None
    detail: str = ""

    def record(self) -> None:
        """Print the row, and put it into the page if the environment names one."""
        memory = "–"
        if self.memory_bytes:
            memory = " → ".join(f"{value / _MIB:.0f}" for value in self.memory_bytes)
        cells = [f"{self.fault}{self.detail}", str(self.requests), str(self.failed)]
        cells += ["–" if s is None else f"{s:.2f}" for s in (self.before_s, self.during_s, self.recovery_s)]
        row = f"| {' | '.join([*cells, memory])} |"
        print(f"\n{row}")
        if page := os.environ.get(PAGE_VARIABLE):
            _insert(Path(page), f"| {self.fault}", row)


def _insert(page: Path, start: str, row: str) -> None:
    """Put a row into the page's table, in the place of the one that begins in the same way."""
    lines = page.read_text().splitlines()
    at = next((number for number, line in enumerate(lines) if line.startswith(start)), None)
    if at is None:
        at = lines.index(_HEAD) + 2
        while at < len(lines) and lines[at].startswith("|"):
            at += 1
        lines.insert(at, row)
    else:
        lines[at] = row
    page.write_text("\n".join(lines) + "\n")


def p99_s(times: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return float(np.percentile(times, 99))


@contextmanager
def load_beside(
    url: str, bodies: list[tuple[str, bytes]], *, rate: float, seconds: float, pid: int
) -> Iterator[Future[LoadStats]]:
    """Send photos at a steady rate beside the block; the future has what became of them."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run_load, url, bodies, concurrency=64, rate=rate, seconds=seconds, pid=pid)


@dataclass(slots=True)
class Vitals:
    """How an endpoint was while something was done to it.

    Attributes:
        health_s: Seconds that each look at /health took; infinite where there was no answer.
        before_bytes: Memory of all processes at first.
        most_bytes: The most they held.
        restarted: Deployments of which a process was lost; the second ones of each come up after the start.
    """

    health_s: list[float] = field(default_factory=list)
    before_bytes: int = 0
    most_bytes: int = 0
    restarted: list[str] = field(default_factory=list)


@contextmanager
def watched(url: str, process: Process) -> Iterator[Vitals]:
    """Look at /health and the memory all the time beside the block, and afterwards for lost processes."""
    vitals, stop = Vitals(before_bytes=memory_of_tree(process.pid)), threading.Event()
    before = {name: set(replicas(process, name)) for name in DEPLOYMENTS}

    def look() -> None:
        vitals.health_s.append(_seconds_to_answer(f"{url}/health"))
        if stop.is_set() or len(vitals.health_s) % 5 == 1:  # adding up the memory of all processes is work too
            vitals.most_bytes = max(vitals.most_bytes, memory_of_tree(process.pid))

    def watch() -> None:
        while not stop.wait(0.2):
            look()
        look()  # what is over at once was still to be seen

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield vitals
    finally:
        stop.set()
        watcher.join()
    vitals.restarted = [name for name in DEPLOYMENTS if not before[name] <= set(replicas(process, name))]


def _seconds_to_answer(address: str) -> float:
    """Return how long one GET took, or infinity."""
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            answer.read()
    except OSError:
        return float("inf")
    return time.perf_counter() - started
