"""The layers that the networks of the U²-Net family are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNormRelu(nn.Module):
    """3×3 convolution, batch normalisation, ReLU; keeps height and width."""

    def __init__(self, channels_in: int, channels_out: int, dilation: int = 1) -> None:
        """Make the layers under their published names."""
        super().__init__()
        self.conv_s1 = nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor, below: Tensor | None = None) -> Tensor:
        """Map features to (N, channels_out, H, W), at least 0.

        Args:
            x: (N, C, H, W).
            below: (N, channels_in - C, h, w), features of the level below, which are enlarged and come first.
        """
        return functional.relu(self.bn_s1(self.conv_s1(join_below(x, below))), inplace=True)


class LowRankConv(nn.Module):
    """3×3 convolution to few channels, 1×1 convolution to all of them, ReLU; keeps height and width.

    Features of the level below are convolved on their own, coarser grid; what is enlarged is the few channels.

    Source: Zhang et al., "Accelerating very deep convolutional networks for classification and detection", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 38 (2016), section 3.1.
    """

    def __init__(
        self, channels_in: int, channels_out: int, rank: int | None, dilation: int = 1, channels_below: int = 0
    ) -> None:
        """Make the layers with random weights.

        Args:
            channels_in: Of x and below together.
            channels_out: Of the result.
            rank: Channels in between; None leaves the 1×1 convolution out.
            dilation: Of the 3×3 convolution.
            channels_below: How many of the channels come from the level below and stay on its grid.
        """
        super().__init__()
        middle = rank or channels_out
        # With a 1×1 convolution behind it, the bias of that one is enough.
        self.conv = nn.Conv2d(
            channels_in - channels_below, middle, 3, padding=dilation, dilation=dilation, bias=not rank
        )
        self.conv_below = nn.Conv2d(channels_below, middle, 3, padding=1, bias=False) if channels_below else None
        self.expand = nn.Conv2d(middle, channels_out, 1) if rank else None

    def forward(self, x: Tensor, below: Tensor | None = None) -> Tensor:
        """Map features to (N, channels_out, H, W), at least 0; arguments as those of ``ConvNormRelu``."""
        return self.finish(self.compress(x, below))

    def compress(self, x: Tensor, below: Tensor | None = None) -> Tensor:
        """Return what the 1×1 convolution sees, (N, rank, H, W)."""
        if self.conv_below is None:
            compressed: Tensor = self.conv(join_below(x, below))
        else:
            compressed = self.conv(x) + resize_like(self.conv_below(below), x)
        return compressed

    def finish(self, compressed: Tensor) -> Tensor:
        """Map what ``compress`` returns to the layer's answer."""
        return functional.relu(compressed if self.expand is None else self.expand(compressed))


def join_below(x: Tensor, below: Tensor | None) -> Tensor:
    """Return x with the features of the level below, if there are any, enlarged and in front of it."""
    return x if below is None else torch.cat((resize_like(below, x), x), 1)


def halve(x: Tensor) -> Tensor:
    """Halve height and width, rounded up, keeping each largest value."""
    return functional.max_pool2d(x, 2, stride=2, ceil_mode=True)


def resize_like(x: Tensor, target: Tensor) -> Tensor:
    """Bring x, bilinearly, to the height and width of another tensor."""
    if x.shape[2:] == target.shape[2:]:
        return x
    return functional.interpolate(x, size=target.shape[2:], mode="bilinear", align_corners=False)
