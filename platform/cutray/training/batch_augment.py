"""Augments a batch on the device, in the order and with the strength of ``cutray.data.augment``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cutray.data.augment import SOFT_EDGE_PX
from cutray.training.augment_plan import Plan
from cutray.training.jpeg import compress
from cutray.training.warps import warp

# Sides of the windows in which the subject's own colors are averaged, first coarsely, then finely.
_COLOR_WINDOWS = (31, 7)
_LUMA = (0.299, 0.587, 0.114)


def augment_batch(image: Tensor, alpha: Tensor, other: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor]:
    """Do what a plan says.

    Args:
        image: (N, S, S, 3) uint8, sRGB.
        alpha: (N, S, S) uint8 in 0 … 255.
        other: (K, S, S, 3) uint8, the photos whose stripes become backgrounds, in the order of ``plan.stripes``.
        plan: From ``plan_batch``.

    Returns:
        (N, 3, S, S) float32, whole numbers in 0 … 255, and (N, 1, S, S) float32 in [0, 1].
    """
    device = image.device
    planes = torch.cat((image.permute(0, 3, 1, 2).float(), alpha[:, None].float()), 1)
    turned = warp(planes, *(_put(values, device) for values in (plan.matrices, plan.boxes, plan.flips)))
    pixels, cover = _whole(turned[:, :3]), (turned[:, 3:] / 255).clamp(0, 1)
    if plan.stripes and other is not None:
        at = _put(np.array(list(plan.stripes)), device)
        behind = _stripes(other, np.array(list(plan.stripes.values()), np.float32))
        pixels[at] = _compose(pixels[at], cover[at], behind)
    return photometric_batch(pixels, plan), cover


def photometric_batch(pixels: Tensor, plan: Plan) -> Tensor:
    """Vary light, color, focus, noise and compression of (N, 3, S, S) float32 pictures in 0 … 255."""
    device = pixels.device
    pixels = _colors(pixels, _put(plan.curves, device)) if (plan.curves != 1).any() else pixels
    if plan.grey:
        at = _put(np.array(plan.grey), device)
        luma = sum(weight * one for weight, one in zip(_LUMA, pixels[at].unbind(1), strict=True))
        pixels[at] = _whole(torch.as_tensor(luma))[:, None].expand(-1, 3, -1, -1)
    if plan.blurs:
        at, sigmas = _places(plan.blurs, device)
        pixels[at] = _whole(gaussian_blur(pixels[at], sigmas))
    for place, side in plan.shrinks.items():
        pixels[place] = _from_smaller(pixels[place : place + 1], side)[0]
    if plan.darks:
        at, factors = _places(plan.darks, device)
        pixels[at] = (pixels[at] * factors.view(-1, 1, 1, 1)).floor()
    generator = torch.Generator(device)
    for place, (deviation, seed) in plan.grains.items():
        grain = torch.randn(pixels.shape[1:], generator=generator.manual_seed(seed), device=device)
        pixels[place] = (pixels[place] + deviation * grain).clamp(0, 255).floor()
    if plan.jpegs:
        at, qualities = _places(plan.jpegs, device)
        pixels[at] = compress(pixels[at], qualities)
    return pixels


def gaussian_blur(planes: Tensor, sigmas: Tensor) -> Tensor:
    """Blur each picture of (N, C, H, W) with a deviation of its own, (N,) in pixels; borders are mirrored."""
    count, channels, height, width = planes.shape
    reach = min(8, height - 1, width - 1)
    steps = torch.arange(-reach, reach + 1, device=planes.device, dtype=torch.float32)
    weights = torch.exp(-(steps**2) / (2 * sigmas[:, None] ** 2))
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = planes.reshape(1, count * channels, height, width)
    size = 2 * reach + 1
    for padding, shape in (((0, 0, reach, reach), (size, 1)), ((reach, reach, 0, 0), (1, size))):
        kernel = weights.view(-1, 1, *shape)
        flat = functional.conv2d(functional.pad(flat, padding, mode="reflect"), kernel, groups=count * channels)
    return flat.view(count, channels, height, width)


def own_colors(pixels: Tensor, cover: Tensor) -> Tensor:
    """Estimate the subject's own color where it is half transparent.

    Args:
        pixels: (N, 3, H, W) float32 in 0 … 255.
        cover: (N, 1, H, W) float32 in [0, 1].

    Source: Forte, Pitié, "Approximate fast foreground colour estimation" (2021), eqs. 4 to 6, twice, with windows
    that are square.
    """
    front, back = pixels, pixels
    for window in _COLOR_WINDOWS:
        size = min(window, pixels.shape[2] // 2 * 2 - 1)
        front, back = (_mean(color, weight, size) for color, weight in ((front, cover), (back, 1 - cover)))
        front = (front + cover * (pixels - cover * front - (1 - cover) * back)).clamp(0, 255)
    return front


def _mean(color: Tensor, weight: Tensor, window: int) -> Tensor:
    """Average colors in a window around each pixel, by weight."""
    both = functional.avg_pool2d(torch.cat((color * weight, weight), 1), window, 1, window // 2)
    return both[:, :3] / (both[:, 3:] + 1e-5)


def _compose(pixels: Tensor, cover: Tensor, behind: Tensor) -> Tensor:
    """Lay subjects, in their own colors, on other photos; hard masks get the soft edge that a camera would give."""
    soft = gaussian_blur(cover, torch.full((len(cover),), SOFT_EDGE_PX, device=cover.device)).clamp(0, 1)
    return _whole(own_colors(pixels, soft) * soft + behind * (1 - soft))


def _stripes(photos: Tensor, boxes: np.ndarray) -> Tensor:
    """Enlarge a part of each photo, (K, S, S, 3) uint8, to its whole size; boxes as in ``Plan.boxes``."""
    planes, count = photos.permute(0, 3, 1, 2).float(), len(photos)
    matrices, flips = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)), np.zeros(count, bool)
    return warp(planes, *(_put(values, photos.device) for values in (matrices, boxes, flips)))


def _colors(pixels: Tensor, curves: Tensor) -> Tensor:
    """Change gamma, contrast, warmth and saturation."""
    gamma, contrast, saturation = (curves[:, place].view(-1, 1, 1, 1) for place in (0, 1, 5))
    levels = (((pixels / 255) ** gamma - 0.5) * contrast + 0.5).clamp(0, 1)
    toned = (levels * curves[:, 2:5].view(-1, 3, 1, 1) * 255).clamp(0, 255).floor()
    mean = toned.mean(1, keepdim=True)
    return _whole(mean + (toned - mean) * saturation)


def _from_smaller(pixels: Tensor, side: int) -> Tensor:
    """Enlarge pictures (N, 3, S, S) that were made small before."""
    small = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True).round()
    return _whole(functional.interpolate(small, pixels.shape[2:], mode="bicubic", align_corners=False))


def _whole(pixels: Tensor) -> Tensor:
    """Round to what 8 bits hold."""
    return pixels.round().clamp(0, 255)


def _places(values: Mapping[int, float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Put the numbers of samples and a value for each on the device."""
    return _put(np.array(list(values)), device), _put(np.array(list(values.values()), np.float32), device)


def _put(values: Any, device: torch.device) -> Tensor:
    """Copy an array to the device without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
