"""The edge refiner: a small network that corrects an alpha by the photo's own pixels, where it knows better.

It sees a photo and its alpha, both at working size, draws an alpha of its own, and says pixel by pixel how far that one
is to be followed. Pixels are folded two by two into channels on the way in and unfolded on the way out, so that the
finest layers, which cost most, run at half the size.

Source: Ronneberger et al. 2015, "U-Net"; folding as in Shi et al. 2016, "Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from cutray.errors import WeightsError
from cutray.imaging.files import write_atomically
from cutray.models.export import write_onnx

# Sides of the input must be multiples of this: one folding and three halvings.
STRIDE_PX = 16
_WIDTHS = (24, 32, 48, 64)
# How much the given alpha counts of its own in the logits of the drawn one: little, so that it is easily overruled.
_PULL = 2.0
# Logit of an untrained network's drawing being better: it hardly is.
_SHY = -3.0
# Folded, the alpha is the last four of sixteen channels.
_ALPHA = slice(12, 16)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a refiner makes of an alpha.

    Attributes:
        logits: (N, 1, H, W) float, logits of the alpha that it would draw.
        choice: (N, 1, H, W) float, logits of its being better than the given one.
    """

    logits: Tensor
    choice: Tensor


class EdgeRefiner(nn.Module):
    """Draw an alpha anew; untrained it draws a faint copy and thinks little of it."""

    def __init__(self) -> None:
        """Build it with random weights."""
        super().__init__()
        one, two, three, four = _WIDTHS
        self.look1 = nn.Sequential(_conv(16, one), _conv(one, one))
        self.look2 = nn.Sequential(_conv(one, two), _conv(two, two))
        self.look3 = nn.Sequential(_conv(two, three), _conv(three, three))
        # Dilated, so that a pixel at the edge knows the whole subject.
        self.look4 = nn.Sequential(_conv(three, four), _conv(four, four, 2), _conv(four, four, 4), _conv(four, four, 2))
        self.draw3 = nn.Sequential(_conv(four + three, three), _conv(three, three))
        self.draw2 = nn.Sequential(_conv(three + two, two), _conv(two, two))
        self.draw1 = nn.Sequential(_conv(two + one, one), _conv(one, one))
        self.head = nn.Conv2d(one, 8, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, alpha: Tensor) -> Drawn:
        """Draw, and say how far to follow.

        Args:
            image: (N, 3, H, W) float in [0, 1], sRGB; H and W multiples of `STRIDE_PX`.
            alpha: (N, 1, H, W) float in [0, 1].
        """
        logits, choice = self.draw(functional.pixel_unshuffle(torch.cat([image - 0.5, alpha - 0.5], 1), 2))
        return Drawn(functional.pixel_shuffle(logits, 2), functional.pixel_shuffle(choice, 2))

    def draw(self, folded: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the drawn alpha and of its being better, both (N, 4, H / 2, W / 2).

        Args:
            folded: (N, 16, H / 2, W / 2) float, image and alpha less one half, two by two pixels to channels.
        """
        half = self.look1(folded)
        quarter = self.look2(functional.avg_pool2d(half, 2))
        eighth = self.look3(functional.avg_pool2d(quarter, 2))
        deep = self.look4(functional.avg_pool2d(eighth, 2))
        eighth = self.draw3(_joined(deep, eighth))
        quarter = self.draw2(_joined(eighth, quarter))
        logits, choice = self.head(self.draw1(_joined(quarter, half))).chunk(2, 1)
        return logits + _PULL * folded[:, _ALPHA], choice + _SHY


def new_refiner(seed: int, weights: Path | None = None) -> EdgeRefiner:
    """Build a refiner with random weights, or with stored ones.

    Args:
        seed: Number that random weights follow from.
        weights: From ``save_refiner``.

    Raises:
        WeightsError: The file cannot be read, or holds other weights.
    """
    torch.manual_seed(seed)
    network = EdgeRefiner()
    if weights is not None:
        try:
            network.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise WeightsError(
                got=f"{weights} cannot be used: {error}", allowed="weights of an edge refiner (safetensors)"
            ) from error
    return network


def save_refiner(network: EdgeRefiner, path: Path) -> None:
    """Write a refiner's weights as safetensors, whole or not at all."""
    tensors = {name: values.cpu().contiguous() for name, values in network.state_dict().items()}
    write_atomically(path, save(tensors), overwrite=True)


class _Folded(nn.Module):
    """What is exported: pixels in and out are folded, so that every reader of ONNX runs it at any size."""

    def __init__(self, network: EdgeRefiner) -> None:
        """Wrap a trained network."""
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, folded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the drawn alpha and how likely it is better, both (N, 4, H / 2, W / 2) float in [0, 1]."""
        logits, choice = self.network.draw(folded)
        return torch.sigmoid(logits), torch.sigmoid(choice)


def export_refiner(network: EdgeRefiner) -> bytes:
    """Return the network as an ONNX file for one picture of any size, with pixels folded two by two.

    Args:
        network: Trained; its batch normalisations are folded into the convolutions.
    """
    return write_onnx(
        _Folded(network.cpu()), torch.zeros(1, 16, 64, 64), ("folded", "drawn", "better"), {2: "rows", 3: "columns"}
    )


def _conv(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    """Convolve, normalise, rectify."""
    convolution = nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """Double a map's size and stack it on a finer one."""
    larger = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([larger, fine], 1)
