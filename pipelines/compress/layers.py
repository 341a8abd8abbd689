"""The convolutions of a network: where they run, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutray.models.layers import ConvNormRelu
from cutray.models.u2net import U2Net

# From this share of the input's side on, features of the level below are enlarged before they are convolved, as in the
# original: outlines come from these levels.
_FINE = 0.5


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution with its normalisation folded in.

    Attributes:
        name: Of its module in the network.
        weight: (K, C, 3, 3).
        bias: (K,).
        dilation: Of the convolution.
        side_px: Side of the square grid on which it runs.
        channels_below: How many of the C channels come first, from a coarser grid, and are convolved there.
    """

    name: str
    weight: Tensor
    bias: Tensor
    dilation: int
    side_px: int
    channels_below: int

    def operations(self, rank: int | None) -> float:
        """Return the multiplications per photo with so many channels in the middle; None: without a middle."""
        channels, kept, cells = self.weight.shape[1], rank or len(self.weight), self.side_px**2
        below = self.channels_below * cells / 4
        spatial = 9 * kept * ((channels - self.channels_below) * cells + below)
        return spatial + (rank * len(self.weight) * cells if rank else 0)

    def full_operations(self) -> float:
        """Return the multiplications of the layer as it is."""
        return float(self.weight.numel() * self.side_px**2)

    def parameters(self, rank: int | None) -> int:
        """Return the stored numbers with so many channels in the middle."""
        return self.weight[0].numel() * (rank or len(self.weight)) + (rank or 0) * len(self.weight)


def list_layers(network: U2Net, side_px: int) -> list[Layer]:
    """Return the convolutions of a network's blocks in the order in which they run.

    Args:
        network: In evaluation mode.
        side_px: Side of the photos that it will see.
    """
    names = {module: name for name, module in network.named_modules()}
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, ConvNormRelu)
        x, below = inputs if len(inputs) == 2 else (*inputs, None)
        is_coarser = below is not None and below.shape[2:] != x.shape[2:]
        weight, bias = fold_norm(module)
        found.append(
            Layer(
                names[module],
                weight,
                bias,
                module.conv_s1.dilation[0],
                x.shape[-1],
                below.shape[1] if is_coarser and x.shape[-1] < _FINE * side_px else 0,
            )
        )

    handles = [one.register_forward_pre_hook(note) for one in names if isinstance(one, ConvNormRelu)]
    with torch.no_grad():
        network(torch.zeros(1, 3, side_px, side_px))
    for handle in handles:
        handle.remove()
    return found


def fold_norm(layer: ConvNormRelu) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that includes its batch normalisation."""
    norm = layer.bn_s1
    assert norm.running_mean is not None and norm.running_var is not None and layer.conv_s1.bias is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = layer.conv_s1.weight * factor[:, None, None, None]
    bias = norm.bias + (layer.conv_s1.bias - norm.running_mean) * factor
    return weight.detach(), bias.detach()
