"""The edge refiner: a small network that redraws a coarse alpha by the photo's own pixels.

It sees a photo and the map of the large network, both at working size, and says what the alpha should be. Pixels are
folded two by two into channels on the way in and unfolded on the way out, so that the finest layers, which cost most,
run at half the size.

Source: Ronneberger et al. 2015, "U-Net"; folding as in Shi et al. 2016, "Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network".
"""

from __future__ import annotations

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
# How much the coarse alpha counts of its own in the result's logits: little, so that it is easily overruled.
PULL = 2.0


class EdgeRefiner(nn.Module):
    """Redraw a coarse alpha; untrained it returns a faint copy of it."""

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
        self.head = nn.Conv2d(one, 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, coarse: Tensor) -> Tensor:
        """Return logits of alpha, (N, 1, H, W).

        Args:
            image: (N, 3, H, W) float in [0, 1], sRGB; H and W multiples of `STRIDE_PX`.
            coarse: (N, 1, H, W) float in [0, 1].
        """
        folded = functional.pixel_unshuffle(torch.cat([image - 0.5, coarse - 0.5], 1), 2)
        return functional.pixel_shuffle(self.change(folded), 2) + PULL * (coarse - 0.5)

    def change(self, folded: Tensor) -> Tensor:
        """Return what is to be added to the pull of the coarse alpha, (N, 4, H / 2, W / 2).

        Args:
            folded: (N, 16, H / 2, W / 2) float, image and coarse alpha less one half, two by two pixels to channels.
        """
        half = self.look1(folded)
        quarter = self.look2(functional.avg_pool2d(half, 2))
        eighth = self.look3(functional.avg_pool2d(quarter, 2))
        deep = self.look4(functional.avg_pool2d(eighth, 2))
        eighth = self.draw3(_joined(deep, eighth))
        quarter = self.draw2(_joined(eighth, quarter))
        return self.head(self.draw1(_joined(quarter, half)))  # type: ignore[no-any-return]


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


class _Change(nn.Module):
    """The part of a refiner that is exported: only what every reader of ONNX runs at any size."""

    def __init__(self, network: EdgeRefiner) -> None:
        """Wrap a trained network."""
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, folded: Tensor) -> Tensor:
        """Call ``EdgeRefiner.change``."""
        return self.network.change(folded)


def export_refiner(network: EdgeRefiner) -> bytes:
    """Return the network's ``change`` as an ONNX file for one picture of any size.

    Args:
        network: Trained; its batch normalisations are folded into the convolutions.
    """
    return write_onnx(
        _Change(network.cpu()), torch.zeros(1, 16, 64, 64), ("folded", "change"), {2: "rows", 3: "columns"}
    )


def _conv(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    """Convolve, normalise, rectify."""
    convolution = nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """Double a map's size and stack it on a finer one."""
    larger = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([larger, fine], 1)
