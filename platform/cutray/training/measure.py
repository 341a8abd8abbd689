"""Measures what a device can do: the time of a job, and the rate of a large product of matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

WARM_UP, RUNS = 5, 20


def seconds(device: torch.device, once: Callable[[], Any], runs: int = RUNS) -> float:
    """Return the median of some runs, on a GPU by its own clock."""
    for _ in range(WARM_UP):
        once()
    times = []
    for _ in range(runs):
        if device.type != "cuda":
            started = time.perf_counter()
            once()
            times.append(time.perf_counter() - started)
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        once()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)) / 1000)
    return statistics.median(times)


def matrix_product(device: torch.device, side: int) -> float:
    """Return the rate of a product of matrices of a side in bf16, in 10¹² operations per second."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return float(2 * side**3 / seconds(device, lambda: left @ right) / 1e12)
