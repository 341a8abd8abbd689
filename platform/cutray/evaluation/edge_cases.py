"""When a hard edge counts as done right, picture by picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutray.evaluation.boundary import boundary_accuracy, fine_boundary_iou
from cutray.evaluation.holes import holes_open
from cutray.evaluation.matting import alpha_errors

MAX_BAND_MSE = 0.02
MIN_BOUNDARY_F = 0.75
BOUNDARY_TOLERANCE_PX = 3
MAX_MAE_GROWTH = 0.01
# A seen-through subject never reaches 0.5; its outline lies at half its own usual opacity instead.
_LOWEST_LEVEL, _HIGHEST_LEVEL, _VISIBLE = 0.04, 0.5, 0.02


@dataclass(frozen=True, slots=True)
class EdgeScores:
    """How well one alpha meets its truth.

    Attributes:
        success: Whether the edge counts as done right; see `score_edges`.
        sad: Sum of absolute differences, in thousands.
        mse: Mean squared difference, times 1000.
        grad: Gradient error, in thousands.
        mse_band: Mean squared difference in the unknown band, times 1000; over the picture for a hard truth.
        boundary_iou: Boundary IoU, band 0.2 % of the diagonal.
        boundary_f: Share of the outline found within 3 px, as an F-measure.
        holes_open: Share of the background enclosed by the subject that is kept open; NaN without such holes.
        mae: Mean absolute difference.
        mae_coarse: That of the coarse alpha.
    """

    success: bool
    sad: float
    mse: float
    grad: float
    mse_band: float
    boundary_iou: float
    boundary_f: float
    holes_open: float
    mae: float
    mae_coarse: float


def score_edges(alpha: NDArray[np.float32], truth: NDArray[np.float32], coarse: NDArray[np.float32]) -> EdgeScores:
    """Measure an alpha and judge it.

    Done right means all three: a mean squared error in the unknown band of at most 0.02; an outline that is found
    within 3 px by at least 0.75; and a mean absolute error at most 1 % above that of the coarse alpha, so that
    nothing away from the edge was spoilt. Outlines are taken where the alpha passes half the truth's median
    opacity, at most 0.5: for an opaque subject that is 0.5, for a drinking glass less.

    Args:
        alpha: (H, W) float32 in [0, 1].
        truth: (H, W) float32 in [0, 1].
        coarse: (H, W) float32 in [0, 1], the network's answer stretched to the picture's size.

    Returns:
        The scores.
    """
    level = outline_level(truth)
    predicted, mask = alpha > level, truth > level
    whole, band = alpha_errors(alpha, truth)
    mse_band = whole.mse if np.isnan(band.mse) else band.mse
    boundary_f = boundary_accuracy(predicted, mask, (BOUNDARY_TOLERANCE_PX,))[BOUNDARY_TOLERANCE_PX]
    mae, mae_coarse = (float(np.abs(one - truth).mean(dtype=np.float64)) for one in (alpha, coarse))
    good_band = mse_band <= 1e3 * MAX_BAND_MSE
    unspoilt = mae <= mae_coarse * (1 + MAX_MAE_GROWTH)
    return EdgeScores(
        success=bool(good_band and boundary_f >= MIN_BOUNDARY_F and unspoilt),
        sad=whole.sad,
        mse=whole.mse,
        grad=whole.grad,
        mse_band=mse_band,
        boundary_iou=fine_boundary_iou(predicted, mask),
        boundary_f=boundary_f,
        holes_open=holes_open(predicted, mask),
        mae=mae,
        mae_coarse=mae_coarse,
    )


def outline_level(truth: NDArray[np.float32]) -> float:
    """Return the opacity at which a truth has its outline: half its median where it is visible at all.

    Args:
        truth: (H, W) float32 in [0, 1].

    Returns:
        From 0.04 to 0.5; 0.5 for an empty truth.
    """
    visible = truth[truth > _VISIBLE]
    if visible.size == 0:
        return _HIGHEST_LEVEL
    return float(np.clip(np.median(visible) / 2, _LOWEST_LEVEL, _HIGHEST_LEVEL))
