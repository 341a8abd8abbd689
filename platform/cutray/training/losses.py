"""What training minimises: a sum over the fused map and the six side maps, each at its own size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cutray.config import LossSettings

_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5
_EDGE_WINDOW = 31
_C1, _C2 = 0.01**2, 0.03**2


def deep_supervision_loss(logits: Sequence[Tensor], target: Tensor, settings: LossSettings) -> Tensor:
    """Sum the losses of all maps; a coarse map is compared with the target averaged down to its size.

    Args:
        logits: The fused map and the side maps, (N, 1, h, w) each, of any sizes.
        target: (N, 1, H, W) float32 in [0, 1], soft or hard.
        settings: Weights of the terms and of the maps.

    Returns:
        A scalar, float32.
    """
    total = torch.zeros((), device=target.device)
    for index, (one, weight) in enumerate(zip(logits, (1.0, *settings.sides), strict=True)):
        if weight:
            resized = functional.adaptive_avg_pool2d(target, (one.shape[2], one.shape[3]))
            total = total + weight * map_loss(one.float(), resized, settings, with_ssim=index < 2)
    return total


def map_loss(logits: Tensor, target: Tensor, settings: LossSettings, *, with_ssim: bool) -> Tensor:
    """Weigh cross-entropy, overlap and structure of one map.

    Args:
        logits: (N, 1, H, W) float32.
        target: (N, 1, H, W) float32 in [0, 1].
        settings: Weights of the terms.
        with_ssim: Whether the map is fine enough for the structural term.

    Returns:
        A scalar, the mean over the batch.
    """
    weights = 1.0 + settings.edge * edge_weights(target)
    probs = logits.sigmoid()
    loss = settings.bce * weighted_bce(logits, target, weights) + settings.iou * soft_iou_loss(probs, target, weights)
    if with_ssim and settings.ssim:
        loss = loss + settings.ssim * (1.0 - ssim(probs, target))
    return loss


def edge_weights(target: Tensor) -> Tensor:
    """Tell pixels whose surroundings differ from them.

    Args:
        target: (N, 1, H, W) in [0, 1].

    Returns:
        (N, 1, H, W) in [0, 1], highest at edges and on thin parts.

    Source: Wei, Wang, Huang, "F³Net" (2020), eq. 4.
    """
    window = min(_EDGE_WINDOW, target.shape[2] // 2 * 2 - 1, target.shape[3] // 2 * 2 - 1)
    if window < 3:
        return torch.zeros_like(target)
    # First down, then across: the same mean, for a small part of the work.
    around = target
    for size, padding in (((window, 1), (window // 2, 0)), ((1, window), (0, window // 2))):
        around = functional.avg_pool2d(around, size, stride=1, padding=padding, count_include_pad=False)
    return (around - target).abs()


def weighted_bce(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the binary cross-entropy, averaged with weights per sample; shapes (N, 1, H, W)."""
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((weights * each).sum((2, 3)) / weights.sum((2, 3))).mean()


def soft_iou_loss(probs: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return one minus the soft intersection over union; shapes (N, 1, H, W).

    The minimum and maximum, rather than product and sum, make an exact soft map the optimum.

    Source: Ruzicka similarity; weighted as in Wei, Wang, Huang, "F³Net" (2020), eq. 6.
    """
    both = (weights * torch.minimum(probs, target)).sum((2, 3))
    either = (weights * torch.maximum(probs, target)).sum((2, 3))
    return (1.0 - (both + 1.0) / (either + 1.0)).mean()


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean structural similarity of two batches (N, 1, H, W) with values in [0, 1].

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), eq. 13.
    """
    maps = torch.cat((first, second, first**2, second**2, first * second), 1)
    mean1, mean2, square1, square2, product = (one[:, None] for one in _blur(maps).unbind(1))
    var1, var2 = square1 - mean1**2, square2 - mean2**2
    covariance = product - mean1 * mean2
    luminance = (2 * mean1 * mean2 + _C1) / (mean1**2 + mean2**2 + _C1)
    structure = (2 * covariance + _C2) / (var1.clamp_min(0) + var2.clamp_min(0) + _C2)
    return (luminance * structure).mean()


def _blur(maps: Tensor) -> Tensor:
    """Blur each plane of (N, C, H, W) by itself; beyond its border all is 0.

    Sums of shifted copies take a third of the time of a convolution, which is made for many channels.
    """
    reach = _SSIM_WINDOW // 2
    window = [math.exp(-(step**2) / (2 * _SSIM_SIGMA**2)) for step in range(-reach, reach + 1)]
    weights = [value / sum(window) for value in window]
    for dim in (2, 3):
        length = maps.shape[dim]
        padded = functional.pad(maps, (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0))
        maps = torch.zeros_like(maps)
        for start, weight in enumerate(weights):
            maps = maps.add(padded.narrow(dim, start, length), alpha=weight)
    return maps
