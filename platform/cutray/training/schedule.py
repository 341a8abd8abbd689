"""The learning rate's schedule."""

from __future__ import annotations

import math


def lr_factor(progress: float, warmup_share: float) -> float:
    """Return the learning rate as a share of the highest one: a straight rise, then half a cosine down to zero.

    Args:
        progress: How much of the run is done, in [0, 1].
        warmup_share: Share of the run in which the rate rises, in [0, 1).

    Source: Loshchilov, Hutter, "SGDR" (2017), eq. 5, without restarts.
    """
    if progress < warmup_share:
        return progress / warmup_share
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup_share) / (1 - warmup_share))))
