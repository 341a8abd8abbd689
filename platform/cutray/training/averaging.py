"""Averages a network's weights over the steps of its training."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """An exponential moving average of all weights and buffers, which is what validation sees and what is kept."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with a copy.

        Args:
            network: What is trained.
            decay: Share of the old average in each new one; smaller in the first steps.
        """
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for mean, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - decay)
            else:
                mean.copy_(value)
