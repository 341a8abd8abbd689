"""Do independent parts of one photo's work at the same time.

As many threads take part as OpenCV may use in this process. Whoever works on several photos at a time says
``cv2.setNumThreads(1)``; then one part follows the other. The results are the same either way.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar, cast

import cv2

Result = TypeVar("Result")
First = TypeVar("First")
Second = TypeVar("Second")


def run_both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Run two jobs that do not depend on each other; see ``run_parallel``."""
    jobs: tuple[Callable[[], Any], ...] = first, second
    return cast(tuple[First, Second], tuple(run_parallel(jobs)))


def run_parallel(jobs: Iterable[Callable[[], Result]]) -> list[Result]:
    """Run jobs that do not depend on each other.

    This thread runs the first job, and then, like each helper, one after the other that nobody has begun. It never
    waits for a helper that has not begun anything, so a job may run jobs of its own.

    Args:
        jobs: What is to be done; worth a helper's while from about a millisecond on.

    Returns:
        Their results, in their order.

    Raises:
        Exception: What a job raises.
    """
    numbered = list(enumerate(jobs))
    results: dict[int, Result] = {}
    waiting = deque(numbered[1:])

    def take_turns() -> None:
        while waiting:
            try:
                number, job = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            results[number] = job()

    helping = _start_helpers(min(cv2.getNumThreads() - 1, len(waiting)), take_turns)
    try:
        for number, job in numbered[:1]:
            results[number] = job()
        take_turns()
    finally:
        waiting.clear()
        begun = [helper for helper in helping if not helper.cancel()]
        errors = [helper.exception() for helper in begun]
    for error in filter(None, errors):
        raise error
    return [results[number] for number, _ in numbered]


def _start_helpers(amount: int, work: Callable[[], None]) -> list[Future[None]]:
    """Have helpers do some work; none once the interpreter ends, while its last threads are still at work."""
    helping: list[Future[None]] = []
    with suppress(RuntimeError):
        for _ in range(amount):
            helping.append(_pool().submit(work))
    return helping


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the helpers of this process; they start with the first job."""
    return ThreadPoolExecutor(os.cpu_count(), "helper")


if hasattr(os, "register_at_fork"):  # a fork copies no threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
