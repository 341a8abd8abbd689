"""From the network's prediction to an alpha channel of the photo's size, and whether there is a subject at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutray.config import MattingSettings
from cutray.imaging.resize import resize_within
from cutray.log_odds import mean_probability
from cutray.matting.alpha import classic_alpha, rescale_probs
from cutray.matting.detect import detect_edge_cases
from cutray.matting.edges import matte_edges
from cutray.matting.full_size import FullSize, FullSizeArray
from cutray.matting.objects import FoundObject, find_objects, select_objects
from cutray.matting.refine import Region, built_in_refiner
from cutray.matting.transparency import clear_alpha
from cutray.parallel import run_both

# The confidence is the overlap (IoU) to be expected of a mask: a logistic curve over the logit of the network's score.
# Fitted with u2net as `python -m pipelines.calibrate_confidence` does; docs/quality.md shows how well it holds.
_INTERCEPT, _SLOPE = 0.041, 0.613
# Scores are kept this far from 0 and 1, whose logits are infinite.
_SCORE_MARGIN = 1e-3
_DETECTOR_SIDE_PX = 640
# Side of a square with as many pixels as soft edges are solved on; `fine` follows large photos up to the second one.
_WORK_SIDE_PX, _FINE_SIDE_PX = 480.0, 720.0
# A map of more cells than this is no finer at its edges: IS-Net answers with 1024 from features of half as many.
_FINEST_CELLS = 512
_TOO_BUSY = "see_through was left out: the background is too busy to tell what is clear"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whether the photo has a subject.

    Attributes:
        found: Whether it has one.
        score: Mean probability of all pixels that are not clearly background, in [0, 1]; 0 where there are none.
        confidence: Overlap (IoU) of the mask with the right one that is to be expected, in [0, 1]; the score itself
            where no subject is found.
        area_fraction: Share of the picture that is more likely subject than background, in [0, 1].
    """

    found: bool
    score: float
    confidence: float
    area_fraction: float


@dataclass(frozen=True, slots=True)
class Matte:
    """The alpha channel, and what was found out on the way.

    Attributes:
        alpha: (H, W) float32 in [0, 1].
        subject: Whether there is a subject, and how sure that is.
        edge_cases: What makes the edges hard; empty where nobody needed to know.
        notes: What was left out.
        objects: The separate subjects, the largest first.
    """

    alpha: np.ndarray
    subject: Subject
    edge_cases: tuple[str, ...]
    notes: tuple[str, ...]
    objects: tuple[FoundObject, ...] = ()


def compute_matte(
    image: np.ndarray,
    probs: np.ndarray,
    map_size: int,
    settings: MattingSettings,
    keep: np.ndarray | None = None,
    pixels: FullSize | None = None,
) -> Matte:
    """Compute the alpha channel of a photo.

    Args:
        image: (H, W, 3) uint8, sRGB.
        probs: (T, T) float32 in [0, 1], the network's prediction for the frame.
        map_size: Cells along a side of a single view of the frame.
        settings: Levels, edges, refinement, and which subjects are wanted.
        keep: (T, T) bool, places whose subject is wanted whatever its size, or None.
        pixels: The photo where its full size is worked on, such as a GPU; None works on ``image``.

    Returns:
        The alpha channel, 0 everywhere for an empty scene.
    """
    height, width = image.shape[:2]
    if settings.subjects != "all" or settings.min_area:
        probs = select_objects(probs, settings.most_subjects, settings.min_area / 100, keep)
    subject = find_subject(probs, settings)
    to_refine = subject.found and settings.effort.refine == "detected"

    def solve() -> np.ndarray:
        if settings.compat:
            return classic_alpha(probs, height, width)
        if not subject.found:
            return np.zeros((height, width), np.float32)
        return _solve_alpha(image, pixels or FullSizeArray(image), probs, map_size, settings)

    def detect() -> tuple[str, ...]:
        if not (settings.edge_cases or to_refine):
            return ()
        return detect_edge_cases(resize_within(image, _DETECTOR_SIDE_PX), probs).present

    alpha, edge_cases = run_both(solve, detect)
    region = _region_to_refine(edge_cases, settings) if subject.found and not settings.compat else None
    if region is not None:
        alpha = built_in_refiner().correct(alpha, image, region)
    objects = find_objects(probs, height, width) if subject.found else ()
    notes: tuple[str, ...] = ()
    if settings.see_through and alpha.any():
        cleared = clear_alpha(alpha, image)
        alpha, notes = (alpha, (_TOO_BUSY,)) if cleared is None else (cleared, ())
    return Matte(alpha, subject, edge_cases, notes, objects)


def find_subject(probs: np.ndarray, settings: MattingSettings) -> Subject:
    """Judge the network's probabilities before they become an alpha channel.

    Args:
        probs: (S, S) float32 in [0, 1], not stretched: a stretch would turn any empty scene into a subject.
        settings: Lowest score (`min_confidence`) and area that count as a subject.

    Returns:
        The verdict with its reasons.
    """
    score = mean_probability(probs)
    area = float((probs > 0.5).mean())
    found = score >= settings.min_confidence and area >= settings.min_area_fraction
    return Subject(found, score, calibrate(score) if found else score, area)


def calibrate(score: float, intercept: float = _INTERCEPT, slope: float = _SLOPE) -> float:
    """Estimate the overlap of a mask with the right one; it rises with the score.

    Args:
        score: The network's mean probability over the subject, in [0, 1].
        intercept: Of the logistic curve.
        slope: Of the logistic curve.

    Returns:
        The expected IoU, in [0, 1].
    """
    return 1.0 / (1.0 + math.exp(-(intercept + slope * to_logit(score))))


def to_logit(score: float) -> float:
    """Return the logarithm of the odds of a score in [0, 1], kept finite."""
    safe = min(max(score, _SCORE_MARGIN), 1.0 - _SCORE_MARGIN)
    return math.log(safe / (1.0 - safe))


def _solve_alpha(
    image: np.ndarray, pixels: FullSize, probs: np.ndarray, map_size: int, settings: MattingSettings
) -> np.ndarray:
    """Bring a prediction to the photo's size, along the photo's own edges if that is asked for."""
    height, width = image.shape[:2]
    rescaled = rescale_probs(probs, settings)
    edges = settings.effort.edges
    if edges == "soft":
        return pixels.upsample(rescaled)
    # At more than half a photo's size its grain is solved for, too.
    half = math.sqrt(height * width) / 2
    side = min(max(half, _WORK_SIDE_PX), _FINE_SIDE_PX) if edges == "fine" else _WORK_SIDE_PX
    return matte_edges(rescaled, min(map_size, _FINEST_CELLS), image, side, pixels)


def _region_to_refine(edge_cases: Sequence[str], settings: MattingSettings) -> Region | None:
    """Choose what a refiner may correct. Of the cases detected only hair and fur: false lace would cost too much."""
    refine = settings.effort.refine
    if refine == "detected":
        return "edges" if "fine_detail" in edge_cases else None
    return None if refine == "never" else refine
