"""Gives batch normalisations the statistics that a folded file has lost, without changing what the network computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set each batch normalisation to the statistics of its input, and its scale and shift to undo that.

    In evaluation the network computes what it did before. In training, where batches are normalised by their own
    statistics, it now begins near the same point instead of losing what it knew.

    Args:
        network: A network whose normalisations are identities.
        batches: (N, 3, S, S) float32 normalised photos, a few dozen in all.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    sums = {name: torch.zeros(3, norm.num_features, dtype=torch.float64) for name, norm in norms.items()}

    def watch(name: str) -> Any:
        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].double()
            count = torch.full((values.shape[1],), float(values.numel() // values.shape[1]), dtype=torch.float64)
            sums[name] += torch.stack([values.sum((0, 2, 3)), (values**2).sum((0, 2, 3)), count]).cpu()

        return note

    hooks = [norm.register_forward_pre_hook(watch(name)) for name, norm in norms.items()]
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            network(batch)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    for name, norm in norms.items():
        total, squares, count = sums[name]
        if not count.any() or norm.running_mean is None or norm.running_var is None:
            continue
        mean = total / count
        variance = (squares / count - mean**2).clamp_min(0)
        # y = weight · (x − old mean) / old std + bias, written with the new mean and standard deviation instead.
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        shift = norm.bias.double() - gain * norm.running_mean.double()
        norm.weight.copy_(gain * torch.sqrt(variance + norm.eps))
        norm.bias.copy_(shift + gain * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
