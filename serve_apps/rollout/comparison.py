"""Compares what two networks say of one photo."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cutray.config import MattingSettings
from cutray.matting.matte import find_subject
from cutray.tta import Prediction, mask_agreement


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a challenger's prediction differs from the champion's.

    Attributes:
        iou: Overlap of the two masks, in [0, 1]; 1 where neither found a subject, 0 where one alone did.
        confidence_change: The challenger's confidence less the champion's.
        area_change: Its share of the frame less the champion's.
        champion_found: Whether the champion found a subject.
        challenger_found: Whether the challenger did.
    """

    iou: float
    confidence_change: float
    area_change: float
    champion_found: bool
    challenger_found: bool


def compare(champion: Prediction, challenger: Prediction, settings: MattingSettings) -> Comparison:
    """Compare two predictions for the same photo with the same views.

    Args:
        champion: The present model's.
        challenger: The new one's; its map may have another size.
        settings: What counts as a subject.
    """
    ours, theirs = find_subject(champion.probs, settings), find_subject(challenger.probs, settings)
    return Comparison(
        iou=overlap(champion.probs, challenger.probs)
        if ours.found and theirs.found
        else float(ours.found == theirs.found),
        confidence_change=theirs.confidence - ours.confidence,
        area_change=theirs.area_fraction - ours.area_fraction,
        champion_found=ours.found,
        challenger_found=theirs.found,
    )


def overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the IoU of two masks, in [0, 1]; 1 where both are empty.

    Args:
        first: (S, S) float32 in [0, 1].
        second: (T, T) float32 in [0, 1]; the smaller map is enlarged.
    """
    size = max(first.shape[0], second.shape[0])
    return mask_agreement(
        *(
            probs if probs.shape[0] == size else cv2.resize(probs, (size, size), interpolation=cv2.INTER_LINEAR)
            for probs in (first, second)
        )
    )
