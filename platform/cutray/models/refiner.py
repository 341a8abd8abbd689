"""The edge refiner: a small network that corrects an alpha by the photo's own pixels, where it knows better.

It takes a photo and its alpha, both at working size. It predicts a new alpha, and for each pixel a gate: how likely the
new value is better than the given one. Pixels are folded two by two into channels on the way in and unfolded on the way
out, so that the finest layers, which cost most, run at half the size.

Source: Ronneberger et al. 2015, "U-Net"; folding as in Shi et al. 2016, "Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network".
"""

from __future__ import annotations

import re
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
# Weight of the given alpha in the logits of the new one: little, so that it is easily overruled.
_SKIP_WEIGHT = 2.0
# Logit that an untrained network's gate starts from: its alpha is hardly ever better.
_GATE_BIAS = -3.0
# Folded, the alpha is the last four of sixteen channels.
_ALPHA = slice(12, 16)


@dataclass(frozen=True, slots=True)
class RefinerOutput:
    """What a refiner predicts.

    Attributes:
        logits: (N, 1, H, W) float, logits of the new alpha.
        gate_logits: (N, 1, H, W) float, logits of the new alpha being better than the given one.
    """

    logits: Tensor
    gate_logits: Tensor


class EdgeRefiner(nn.Module):
    """A U-Net that predicts an alpha and a gate; untrained it gives a faint copy with a gate that is nearly shut."""

    def __init__(self) -> None:
        """Build it with random weights."""
        super().__init__()
        one, two, three, four = _WIDTHS
        self.encoder1 = nn.Sequential(_conv(16, one), _conv(one, one))
        self.encoder2 = nn.Sequential(_conv(one, two), _conv(two, two))
        self.encoder3 = nn.Sequential(_conv(two, three), _conv(three, three))
        # Dilated, so that a pixel at the edge sees the whole subject.
        self.encoder4 = nn.Sequential(
            _conv(three, four), _conv(four, four, 2), _conv(four, four, 4), _conv(four, four, 2)
        )
        self.decoder3 = nn.Sequential(_conv(four + three, three), _conv(three, three))
        self.decoder2 = nn.Sequential(_conv(three + two, two), _conv(two, two))
        self.decoder1 = nn.Sequential(_conv(two + one, one), _conv(one, one))
        self.head = nn.Conv2d(one, 8, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, alpha: Tensor) -> RefinerOutput:
        """Predict the alpha and the gate.

        Args:
            image: (N, 3, H, W) float in [0, 1], sRGB; H and W multiples of `STRIDE_PX`.
            alpha: (N, 1, H, W) float in [0, 1].
        """
        folded = functional.pixel_unshuffle(torch.cat([image - 0.5, alpha - 0.5], 1), 2)
        logits, gate_logits = self.predict_folded(folded)
        return RefinerOutput(functional.pixel_shuffle(logits, 2), functional.pixel_shuffle(gate_logits, 2))

    def predict_folded(self, folded: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the new alpha and of its gate, both (N, 4, H / 2, W / 2).

        Args:
            folded: (N, 16, H / 2, W / 2) float, image and alpha less one half, two by two pixels to channels.
        """
        half = self.encoder1(folded)
        quarter = self.encoder2(functional.avg_pool2d(half, 2))
        eighth = self.encoder3(functional.avg_pool2d(quarter, 2))
        deep = self.encoder4(functional.avg_pool2d(eighth, 2))
        eighth = self.decoder3(_upsample_and_concat(deep, eighth))
        quarter = self.decoder2(_upsample_and_concat(eighth, quarter))
        logits, gate_logits = self.head(self.decoder1(_upsample_and_concat(quarter, half))).chunk(2, 1)
        return logits + _SKIP_WEIGHT * folded[:, _ALPHA], gate_logits + _GATE_BIAS


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
            network.load_state_dict({_current_name(name): values for name, values in load_file(weights).items()})
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
        """Return the new alpha and how likely it is better, both (N, 4, H / 2, W / 2) float in [0, 1]."""
        logits, gate_logits = self.network.predict_folded(folded)
        return torch.sigmoid(logits), torch.sigmoid(gate_logits)


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


def _current_name(name: str) -> str:
    """Translate the name of a tensor in a file of the first release, in which stages were look1 and draw1."""
    return re.sub(r"^draw(?=\d\.)", "decoder", re.sub(r"^look(?=\d\.)", "encoder", name))


def _upsample_and_concat(coarse: Tensor, fine: Tensor) -> Tensor:
    """Double a map's size and stack it on a finer one."""
    larger = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([larger, fine], 1)
