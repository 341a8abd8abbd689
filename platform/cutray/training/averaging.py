"""Averages a network's weights over the steps of its training."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def interpolate_weights(network: nn.Module, start: Mapping[str, Tensor], share: float) -> nn.Module:
    """Return a copy of a network whose weights lie between its own and those it began with (WiSE-FT).

    What it has learned of a narrow collection is kept in part, and so is what it knew of everything else.

    Args:
        network: After training.
        start: All weights and buffers at the start, by name.
        share: Their part, in [0, 1); 0 changes nothing.

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (2022).
    """
    copied = copy.deepcopy(network)
    for name, value in copied.state_dict().items():
        if share and value.is_floating_point():
            value.lerp_(start[name].to(value), share)
    return copied


class ModelEma:
    """Keep an exponential moving average of all weights and buffers: validation scores it, and it is what is kept.

    torch's ``AveragedModel`` does not fit: it copies the first step whole, rounds integer buffers, and takes the step
    from a tensor on the device, which would make every step wait for the GPU. Its fused update is used here.
    """

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
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        moving = [(mean, value.to(mean.dtype)) for mean, value in pairs if mean.is_floating_point()]
        decay = min(self._decay, (1 + step) / (10 + step))
        blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        blend([mean for mean, _ in moving], [value for _, value in moving], step)
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)
