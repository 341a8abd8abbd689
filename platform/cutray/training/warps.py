"""Crops, flips, turns and perspectives of whole batches in one step: each pixel is fetched from the original once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def warp(planes: Tensor, matrices: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Look at a box of each picture, mirrored if so, through a homography.

    What comes into view beside the box mirrors it, as ``cv2.BORDER_REFLECT_101`` does.

    Args:
        planes: (N, C, S, S) float32.
        matrices: (N, 3, 3) float32, from pixels of the result to pixels of the box, enlarged to S.
        boxes: (N, 4) float32: left, top, width and height in pixels.
        flips: (N,) bool, whether the box is mirrored.

    Returns:
        (N, C, S, S) float32.
    """
    side = planes.shape[2]
    steps = torch.arange(side, device=planes.device, dtype=torch.float32)
    row, column = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack((column, row, torch.ones_like(row)), -1)
    seen = torch.einsum("nij,hwj->nhwi", matrices, points)
    at = seen[..., :2] / seen[..., 2:]
    at = reflect(at, side)
    x = torch.where(flips.view(-1, 1, 1), side - 1 - at[..., 0], at[..., 0])
    scale = boxes[:, 2:].view(-1, 1, 1, 2) / side
    inside = (torch.stack((x, at[..., 1]), -1) + 0.5) * scale - 0.5
    # A box that is enlarged ends at the middle of its last pixel.
    most = (boxes[:, 2:] - 1).view(-1, 1, 1, 2).clamp_min(0)
    inside = torch.minimum(inside.clamp_min(0), most) + boxes[:, :2].view(-1, 1, 1, 2)
    grid = (inside + 0.5) * (2 / side) - 1
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)


def reflect(at: Tensor, side: int) -> Tensor:
    """Mirror coordinates at the first and the last pixel until they lie between them."""
    last = float(side - 1)
    return last - (torch.remainder(at, 2 * last) - last).abs()
