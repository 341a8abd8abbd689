"""How far a mean over pictures can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cutray.errors import InputError


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.floating], *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Estimate in which interval the mean lies, by drawing pictures with replacement.

    Give the differences of two models on the same pictures to compare them in pairs.

    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13 (percentile interval).

    Args:
        values: One value per picture; NaN means not defined and is left out.
        seed: Seed of the draw; equal seeds give equal intervals.
        resamples: Number of draws.
        level: Share of draws inside the interval, in (0,1).

    Returns:
        Lower and upper end; NaN for both without any value.

    Raises:
        InputError: ``resamples`` or ``level`` is out of range.
    """
    if resamples < 1 or not 0 < level < 1:
        raise InputError(got=f"resamples {resamples} and level {level}", allowed="resamples ≥ 1 and 0 < level < 1")
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(0, known.size, (resamples, known.size), dtype=np.int32)
    low, high = np.quantile(known[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
