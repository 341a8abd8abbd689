"""All scores of one picture, and their means over a set.

Soft truths are binarised at 0.5 for the saliency and edge scores and stay soft for ``mae`` and the matting errors.
Hard truths get the matting errors of the whole picture too; they have no unknown band, so those fields are NaN
and drop out of the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.errors import InputError, ShapeMismatchError
from cutray.evaluation.boundary import boundary_accuracy, fine_boundary_iou, wide_boundary_iou
from cutray.evaluation.holes import holes_open
from cutray.evaluation.matting import alpha_errors
from cutray.evaluation.saliency import binarise_adaptively, count_at, dice, e_measure, f_measure, iou, sweep_thresholds
from cutray.evaluation.structure import s_measure, weighted_f

HALF = 0.5
_HALF_LEVEL = 128
_ROUNDING = 1e-5
_CURVES = ("f_curve", "e_curve")


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """Every score of one picture.

    Higher is better in [0,1] down to the edge scores; from ``mae`` on 0 is best.

    Attributes:
        iou: Intersection over union at alpha > 0.5.
        dice: Dice coefficient at alpha > 0.5.
        f_adaptive: F-measure (β² = 0.3) at twice the mean alpha.
        weighted_f: Weighted F-measure (β² = 1).
        s_measure: Structure measure.
        e_adaptive: Enhanced alignment measure at twice the mean alpha.
        missing: Share of the subject that is at alpha ≤ 0.5; NaN without a subject. 0 is best.
        extra: Area outside the subject that is at alpha > 0.5, as a share of the subject's. 0 is best.
        holes_open: Share of the background enclosed by the subject that is at alpha ≤ 0.5; NaN without such holes.
        boundary_iou: Boundary IoU, band 2 % of the diagonal.
        boundary_iou_fine: Boundary IoU, band 0.2 % of the diagonal.
        boundary_f_1px: Share of edges found within 1 px, as an F-measure; likewise 2, 3 and 5 px.
        mae: Mean absolute difference.
        mae_binary: Mean absolute difference from the binarised truth, which saliency benchmarks print.
        sad: Sum of absolute differences, in thousands.
        mse: Mean squared difference, times 1000.
        grad: Gradient error, in thousands.
        conn: Connectivity error, in thousands.
        sad_band: ``sad`` in the unknown band of the truth, NaN for a hard truth; likewise ``mse_band``,
            ``grad_band`` and ``conn_band``.
        f_curve: (256,) float64, F-measure at the thresholds 0/255 … 255/255.
        e_curve: (256,) float64, enhanced alignment measure at the same thresholds.
    """

    iou: float
    dice: float
    f_adaptive: float
    weighted_f: float
    s_measure: float
    e_adaptive: float
    missing: float
    extra: float
    holes_open: float
    boundary_iou: float
    boundary_iou_fine: float
    boundary_f_1px: float
    boundary_f_2px: float
    boundary_f_3px: float
    boundary_f_5px: float
    mae: float
    mae_binary: float
    sad: float
    mse: float
    grad: float
    conn: float
    sad_band: float
    mse_band: float
    grad_band: float
    conn_band: float
    f_curve: NDArray[np.float64]
    e_curve: NDArray[np.float64]

    def numbers(self) -> dict[str, float]:
        """Return all scores but the curves, by name and in order."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self) if field.name not in _CURVES}


def score(
    alpha: NDArray[np.floating], truth: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> ImageScores:
    """Measure one predicted alpha against its truth.

    No value is stretched or normalised first. Empty truths and predictions: overlap and edge scores are 1 when
    both are empty and 0 when one is; the docstrings of the single scores state the rest.

    Args:
        alpha: (H,W) float in [0,1], at the truth's size.
        truth: (H,W) float in [0,1].
        ignored: (H,W) bool, pixels that are left out; with any of them, the scores of outlines and structure, which
            need the whole picture, are NaN. None leaves out nothing.

    Returns:
        All scores.

    Raises:
        ShapeMismatchError: The two differ in size; resize the alpha to the truth, never the reverse.
        InputError: An array is not (H,W), is empty, or has values outside [0,1] by more than rounding errors.
    """
    alpha32, truth32 = _checked(alpha, "alpha"), _checked(truth, "truth")
    if alpha32.shape != truth32.shape:
        raise ShapeMismatchError(
            got=f"an alpha of shape {alpha32.shape} and a truth of shape {truth32.shape}",
            allowed="equal shapes",
            fix="resize the alpha to the truth's size",
        )
    if ignored is not None and ignored.any():
        return _score_pixels(alpha32[~ignored], truth32[~ignored])
    predicted, mask = alpha32 > HALF, truth32 > HALF
    at_half = count_at(predicted, mask)
    adaptive = count_at(binarise_adaptively(alpha32), mask)
    sweep = sweep_thresholds(alpha32, mask)
    edges = boundary_accuracy(predicted, mask)
    whole, band = alpha_errors(alpha32, truth32)
    return ImageScores(
        iou=float(iou(at_half)[0]),
        dice=float(dice(at_half)[0]),
        f_adaptive=float(f_measure(adaptive)[0]),
        weighted_f=weighted_f(alpha32, mask),
        s_measure=s_measure(alpha32, mask),
        e_adaptive=float(e_measure(adaptive)[0]),
        **_wrong_regions(predicted, mask),
        holes_open=holes_open(predicted, mask),
        boundary_iou=wide_boundary_iou(predicted, mask),
        boundary_iou_fine=fine_boundary_iou(predicted, mask),
        **{f"boundary_f_{tolerance}px": value for tolerance, value in edges.items()},
        mae=float(np.abs(alpha32 - truth32).mean(dtype=np.float64)),
        mae_binary=float(np.abs(alpha32 - mask).mean(dtype=np.float64)),
        **asdict(whole),
        **{f"{name}_band": value for name, value in asdict(band).items()},
        f_curve=f_measure(sweep),
        e_curve=e_measure(sweep),
    )


def _score_pixels(alpha: NDArray[np.float32], truth: NDArray[np.float32]) -> ImageScores:
    """Measure what can be measured pixel by pixel, on (N,) pixels; a picture without any counts as right."""
    if not alpha.size:
        alpha = truth = np.zeros(1, np.float32)
    alpha, truth = alpha[None], truth[None]
    mask = truth > HALF
    at_half = count_at(alpha > HALF, mask)
    adaptive = count_at(binarise_adaptively(alpha), mask)
    sweep = sweep_thresholds(alpha, mask)
    difference = alpha.astype(np.float64) - truth
    known = {
        "iou": float(iou(at_half)[0]),
        "dice": float(dice(at_half)[0]),
        "f_adaptive": float(f_measure(adaptive)[0]),
        "e_adaptive": float(e_measure(adaptive)[0]),
        **_wrong_regions(alpha > HALF, mask),
        "mae": float(np.abs(difference).mean()),
        "mae_binary": float(np.abs(alpha - mask).mean(dtype=np.float64)),
        "sad": float(np.abs(difference).sum() / 1e3),
        "mse": float((difference**2).mean() * 1e3),
    }
    names = [field.name for field in fields(ImageScores) if field.name not in _CURVES]
    numbers: dict[str, Any] = {name: known.get(name, float("nan")) for name in names}
    return ImageScores(**numbers, f_curve=f_measure(sweep), e_curve=e_measure(sweep))


def _wrong_regions(predicted: NDArray[np.bool_], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Return which share of the subject is missing, and how much that is not subject is extra."""
    area = int(mask.sum())
    if not area:
        return {"missing": float("nan"), "extra": float("nan")}
    return {"missing": float((mask & ~predicted).sum() / area), "extra": float((predicted & ~mask).sum() / area)}


def summarise(scores: Sequence[ImageScores]) -> dict[str, float]:
    """Average the scores of a set.

    ``f_max`` is the maximum of the mean of the per-picture curves, ``f_mean`` the mean of that curve and
    ``f_half`` its value at 128/255; ``e_max`` and ``e_mean`` likewise. ``n`` is the number of pictures and
    ``n_soft`` the number of those with an unknown band, over which the band errors are averaged.

    Args:
        scores: One entry per picture.

    Returns:
        Name to mean; NaN for band errors when no truth is soft.

    Raises:
        InputError: There are no scores.
    """
    if not scores:
        raise InputError(got="no scores to average", allowed="at least one picture", fix="check the folder's contents")
    rows = [entry.numbers() for entry in scores]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    means = {name: _mean_of_known(values) for name, values in columns.items()}
    f_curve = np.mean([entry.f_curve for entry in scores], axis=0)
    e_curve = np.mean([entry.e_curve for entry in scores], axis=0)
    means |= {"f_max": float(f_curve.max()), "f_mean": float(f_curve.mean()), "f_half": float(f_curve[_HALF_LEVEL])}
    means |= {"e_max": float(e_curve.max()), "e_mean": float(e_curve.mean())}
    return means | {"n": float(len(rows)), "n_soft": float(np.isfinite(columns["sad_band"]).sum())}


def _checked(values: NDArray[np.floating], name: str) -> NDArray[np.float32]:
    """Return a contiguous float32 copy without rounding errors, or say what is wrong with the array."""
    array = np.ascontiguousarray(values, np.float32)
    # The comparison is written so that NaN fails it.
    if array.ndim != 2 or array.size == 0 or not (array.min() >= -_ROUNDING and array.max() <= 1 + _ROUNDING):
        span = f"values from {array.min()} to {array.max()}" if array.size else "no values"
        raise InputError(
            got=f"{name} of shape {array.shape} with {span}",
            allowed="(H,W) with values in [0,1]",
            fix="divide 8-bit values by 255",
        )
    return np.clip(array, 0, 1)


def _mean_of_known(values: NDArray[np.float64]) -> float:
    """Average the values that are defined."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
