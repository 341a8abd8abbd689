"""Run jobs in threads, and take their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def run_in_order(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
    """Yield the results of jobs in their order.

    Args:
        pool: What runs them.
        jobs: Taken one by one, as room is made for them.
        ahead: Jobs in work, or done and waiting for a slow one before them, besides the one whose result is next.

    Yields:
        Each job's result; its error is raised instead, and nothing more is begun then.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
