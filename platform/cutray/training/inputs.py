"""Turns streamed batches into what the network takes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cutray.models.catalog import ModelSpec

# All levels of the networks halve to whole sizes then.
_SIDE_STEP_PX = 32


def to_device_batch(batch: Mapping[str, Any], spec: ModelSpec, device: torch.device) -> dict[str, Tensor]:
    """Normalise photos as ``cutray.segmenter.prepare`` does, on the device.

    Args:
        batch: ``image`` (N, S, S, 3) and ``alpha`` (N, S, S), uint8 arrays or tensors.
        spec: Scale, mean and standard deviation.
        device: Where the network is.

    Returns:
        ``image`` (N, 3, S, S) float32 and ``alpha`` (N, 1, S, S) float32 in [0, 1].
    """
    pixels = torch.as_tensor(batch["image"]).to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    alpha = torch.as_tensor(batch["alpha"]).to(device, non_blocking=True)[:, None].float() / 255.0
    return {"image": normalize(pixels, spec), "alpha": alpha}


def normalize(pixels: Tensor, spec: ModelSpec) -> Tensor:
    """Scale and normalise photos, (N, 3, S, S) float32 in 0 … 255, as the weights demand; in channels-last order."""
    peak = pixels.amax((1, 2, 3), keepdim=True).clamp_min(1e-6) if spec.scale == "max" else 255.0
    mean, std = _constants(spec.mean, spec.std, pixels.device)
    return ((pixels / peak - mean) / std).contiguous(memory_format=torch.channels_last)


def resize_batch(image: Tensor, alpha: Tensor, side_px: int, scale: float) -> tuple[Tensor, Tensor]:
    """Resize a batch to a multiple of its side, in steps of 32 pixels.

    Args:
        image: (N, 3, S, S) float32, normalised.
        alpha: (N, 1, S, S) float32 in [0, 1].
        side_px: S.
        scale: The multiple; 1 changes nothing.
    """
    side = max(_SIDE_STEP_PX, round(side_px * scale / _SIDE_STEP_PX) * _SIDE_STEP_PX) if scale != 1 else side_px
    if side == side_px:
        return image, alpha
    resized = [
        functional.interpolate(values, (side, side), mode="bilinear", antialias=side < side_px)
        for values in (image, alpha)
    ]
    return resized[0].contiguous(memory_format=torch.channels_last), resized[1]


@functools.lru_cache
def _constants(
    mean: tuple[float, float, float], std: tuple[float, float, float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Put mean and deviation on a device once: each copy from unpinned memory waits for the device."""
    first, second = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
    return first, second
