"""Averages a network's weights over the steps of its training."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


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
    from a tensor on the device, which would make every step wait for the GPU.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with a copy.

        Args:
            network: What is trained, in its place: its tensors must stay the same ones.
            decay: Share of the old average in each new one; smaller in the first steps.
        """
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self._decay = decay
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self._means, self._values = [mean for mean, _ in moving], [value for _, value in moving]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    def share(self, step: int) -> float:
        """Return the share of the weights after a step, counted from 1, in the new average."""
        return 1.0 - min(self._decay, (1 + step) / (10 + step))

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        self.blend(torch.tensor(self.share(step), device=self._means[0].device))

    @torch.no_grad()
    def blend(self, share: Tensor) -> None:
        """Take in the weights with a share that is known on the device alone, () float32; 0 changes nothing."""
        # Not a product with 0: that of a value that is not finite would be none.
        differences = [torch.where(share > 0, one, 0.0) for one in torch._foreach_sub(self._values, self._means)]
        torch._foreach_mul_(differences, share)
        torch._foreach_add_(self._means, differences)
        if self._counters:
            torch._foreach_copy_([mean for mean, _ in self._counters], [value for _, value in self._counters])
