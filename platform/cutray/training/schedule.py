"""How the learning rate moves over a run."""

from __future__ import annotations

import math


def rate_at(share: float, warmup_share: float) -> float:
    """Return the learning rate as a share of the highest one: a straight rise, then half a cosine down to zero.

    Args:
        share: How much of the run is done, in [0, 1].
        warmup_share: Share of the run in which the rate rises, in [0, 1).

    Source: Loshchilov, Hutter, "SGDR" (2017), eq. 5, without restarts.
    """
    if share < warmup_share:
        return share / warmup_share
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warmup_share) / (1 - warmup_share))))
