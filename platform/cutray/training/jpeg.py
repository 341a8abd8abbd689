"""Compresses pictures as JPEG does, on whatever device they are: what is lost is lost alike, only no bytes are made."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 8
# Color is kept at half the resolution, as is usual below high qualities.
_CHROMA = 2
# Tables of the standard for brightness and color, row by row.
_LUMA_TABLE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMA_TABLE = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 "
    "99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def compress(pixels: Tensor, quality: Tensor) -> Tensor:
    """Lose what a JPEG file of a quality loses.

    Args:
        pixels: (N, 3, H, W) float32 in 0 … 255, sRGB.
        quality: (N,) float32 in 1 … 100, as libjpeg counts it.

    Returns:
        (N, 3, H, W) float32, whole numbers in 0 … 255.

    Source: ITU-T T.81, annexes A.3 and K.1; the scale of quality is libjpeg's.
    """
    height, width = pixels.shape[2:]
    to_ycc, to_rgb, dct, tables = _constants(pixels.device)
    multiple = _BLOCK * _CHROMA
    padded = functional.pad(pixels, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, padded)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1, 1) / 100
    steps = torch.floor(tables * scale + 0.5).clamp(1, 255)
    luma = _quantize(ycc[:, :1] - 128, dct, steps[:, :1])
    chroma = _quantize(functional.avg_pool2d(ycc[:, 1:], _CHROMA), dct, steps[:, 1:])
    # Decoders enlarge color smoothly, each new pixel from the nearest one and its neighbour.
    chroma = functional.interpolate(chroma, scale_factor=_CHROMA, mode="bilinear", align_corners=False)
    rgb = torch.einsum("ij,njhw->nihw", to_rgb, torch.cat((luma + 128, chroma), 1))
    return rgb[:, :, :height, :width].round().clamp(0, 255)


def _quantize(planes: Tensor, dct: Tensor, steps: Tensor) -> Tensor:
    """Round the frequencies of each 8×8 block to multiples of its table's steps; planes (N, C, H, W)."""
    count, channels, height, width = planes.shape
    blocks = planes.reshape(count, channels, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).transpose(3, 4)
    steps = steps.view(count, 1, 1, 1, _BLOCK, _BLOCK)
    frequencies = torch.round(dct @ blocks @ dct.T / steps) * steps
    back = dct.T @ frequencies @ dct
    return back.transpose(3, 4).reshape(count, channels, height, width)


@functools.lru_cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the matrices to brightness and color and back, the cosine transform, and both tables (1, 2, 8, 8)."""
    place, frequency = torch.arange(_BLOCK), torch.arange(_BLOCK)[:, None]
    dct = torch.cos((2 * place + 1) * frequency * math.pi / (2 * _BLOCK)) / 2
    dct[0] /= math.sqrt(2)
    tables = [[float(word) for word in text.split()] for text in (_LUMA_TABLE, _CHROMA_TABLE)]
    both = torch.tensor(tables).view(1, 2, _BLOCK, _BLOCK)
    to_ycc = torch.tensor(_TO_YCC)
    return to_ycc.to(device), torch.linalg.inv(to_ycc).to(device), dct.to(device), both.to(device)
