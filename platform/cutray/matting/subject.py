"""Decide whether there is a subject at all, and how sure the network is of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cutray.config import MattingSettings

# Below this probability a pixel says nothing about how sure the network is of its subject.
_NOTICEABLE = 0.1


@dataclass(frozen=True, slots=True)
class Subject:
    """What the network saw.

    Attributes:
        found: Whether the picture has a subject.
        confidence: Mean probability of all pixels the network noticed, in [0, 1]; 0 for an empty scene.
        area_fraction: Share of the picture that is more likely subject than background, in [0, 1].
    """

    found: bool
    confidence: float
    area_fraction: float


def find_subject(probs: np.ndarray, settings: MattingSettings) -> Subject:
    """Judge the network's probabilities before they become an alpha channel.

    Args:
        probs: (S, S) float32 in [0, 1], not stretched: a stretch would turn any empty scene into a subject.
        settings: Lowest confidence and area that count as a subject.

    Returns:
        The verdict with its reasons.
    """
    noticed = probs[probs > _NOTICEABLE]
    confidence = float(noticed.mean()) if noticed.size else 0.0
    area = float((probs > 0.5).mean())
    found = confidence >= settings.min_confidence and area >= settings.min_area_fraction
    return Subject(found=found, confidence=confidence, area_fraction=area)
