"""Average maps of probabilities as logarithms of their odds, in which a sure map weighs more than a doubtful one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Below this probability a pixel says nothing about how sure the network is of its subject.
_NOTICEABLE = 0.1
# Probabilities are kept this far from 0 and 1, so that no single map outvotes all others for good.
_MARGIN = 1e-3


def mean_probability(probs: np.ndarray) -> float:
    """Score a map: the mean probability of all pixels that are not clearly background.

    Args:
        probs: (H, W) float32 in [0, 1].

    Returns:
        The score in [0, 1]; 0 where there are no such pixels.
    """
    noticed = probs[probs > _NOTICEABLE]
    return float(noticed.mean()) if noticed.size else 0.0


def average(maps: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Average maps of the same scene.

    Args:
        maps: (H, W) float32 in [0, 1] each, all of one shape; a single one comes back as it is.
        weights: One for each map, positive; equal ones if None.

    Returns:
        One map of that shape, float32 in [0, 1].
    """
    if len(maps) == 1:
        return maps[0]
    return _to_probs(np.average([to_log_odds(one) for one in maps], axis=0, weights=weights))


def average_by_certainty(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Average maps of different networks, each weighted by the odds of its score.

    A network that has lost the subject is unsure of what it shows, and would pull the others down.

    Args:
        maps: (H, W) float32 in [0, 1] each, all of one shape.

    Returns:
        One map of that shape, float32 in [0, 1].
    """
    scores = [min(max(mean_probability(one), _MARGIN), 1.0 - _MARGIN) for one in maps]
    return average(maps, [score / (1.0 - score) for score in scores])


def to_log_odds(probs: np.ndarray) -> np.ndarray:
    """Return the logarithm of the odds of probabilities in [0, 1], kept finite."""
    safe = np.clip(probs, _MARGIN, 1.0 - _MARGIN)
    return np.asarray(np.log(safe / (1.0 - safe)))


def _to_probs(log_odds: np.ndarray) -> np.ndarray:
    """Probabilities, reaching from 0 to 1 although their odds were kept from the ends."""
    probs = 1.0 / (1.0 + np.exp(-log_odds))
    return np.asarray(np.clip((probs - _MARGIN) / (1.0 - 2.0 * _MARGIN), 0.0, 1.0), dtype=np.float32)
