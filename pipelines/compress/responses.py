"""What the convolutions of a network answer: in which directions they vary, and how much each of them matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutray.models.u2net import U2Net
from pipelines.compress.layers import Layer

_CELLS_PER_PHOTO = 1500
# A layer's weight is measured by taking this share of the variance of its responses away.
_TAKEN_AWAY = 0.05


@dataclass(frozen=True, slots=True)
class Responses:
    """The responses of one convolution, before its ReLU.

    Attributes:
        mean: (K,).
        directions: (K, K), orthonormal columns, the one of the largest variance first.
        lost: (K,), share of the variance that is left out with the first 1, 2, … K directions.
    """

    mean: Tensor
    directions: Tensor
    lost: Tensor


def measure_responses(
    network: U2Net, layers: Sequence[Layer], photos: Sequence[Tensor], report: Callable[[int], None]
) -> dict[str, Responses]:
    """Find the principal directions of each convolution's responses.

    Args:
        network: In evaluation mode.
        layers: From ``list_layers``.
        photos: (1, 3, S, S) float32 each, prepared for the network.
        report: Called after each photo with 1.

    Source: Zhang et al. (2016), see ``LowRankConv``, section 3.1.
    """
    generator = torch.Generator().manual_seed(0)
    counts = dict.fromkeys((layer.name for layer in layers), 0)
    sums: dict[str, Tensor] = {}
    products: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            values = output[0].flatten(1)
            cells = torch.randperm(values.shape[1], generator=generator)[:_CELLS_PER_PHOTO]
            values = values[:, cells].double()
            counts[name] += len(cells)
            sums[name] = sums.get(name, 0) + values.sum(1)
            products[name] = products.get(name, 0) + values @ values.T

        return hook

    handles = [network.get_submodule(f"{name}.bn_s1").register_forward_hook(note(name)) for name in counts]
    with torch.no_grad():
        for photo in photos:
            network(photo)
            report(1)
    for handle in handles:
        handle.remove()
    found = {}
    for name, count in counts.items():
        mean = sums[name] / count
        variances, vectors = torch.linalg.eigh(products[name] / count - torch.outer(mean, mean))
        variances = variances.flip(0).clamp(min=0)
        lost = 1 - variances.cumsum(0) / variances.sum().clamp(min=1e-12)
        found[name] = Responses(mean.float(), vectors.flip(1).float(), lost.clamp(min=0).float())
    return found


def measure_weights(
    network: U2Net,
    layers: Sequence[Layer],
    responses: Mapping[str, Responses],
    photos: Sequence[Tensor],
    report: Callable[[int], None],
) -> dict[str, float]:
    """Tell how much the network's map changes per share of variance that a layer loses.

    Args:
        network: In evaluation mode.
        layers: Those to measure.
        responses: From ``measure_responses``.
        photos: (1, 3, S, S) float32 each, others than those of the responses.
        report: Called after each layer with 1.

    Returns:
        Mean squared change of a probability, divided by the share of the variance that was taken away.
    """
    weights = {}
    with torch.no_grad():
        expected = [network(photo)[0].sigmoid() for photo in photos]
        for layer in layers:
            found = responses[layer.name]
            rank = max(1, int((found.lost > _TAKEN_AWAY).sum()) + 1)
            taken = float(found.lost[rank - 1])
            report(1)
            if taken <= 0:
                continue
            kept = found.directions[:, :rank]
            projection = (kept @ kept.T)[:, :, None, None]

            def project(
                _module: nn.Module, _inputs: Any, output: Tensor, by: Tensor = projection, mean: Tensor = found.mean
            ) -> Tensor:
                centred = output - mean[:, None, None]
                return nn.functional.conv2d(centred, by) + mean[:, None, None]

            handle = network.get_submodule(f"{layer.name}.bn_s1").register_forward_hook(project)
            changes = [
                (network(photo)[0].sigmoid() - map_).square().mean()
                for photo, map_ in zip(photos, expected, strict=True)
            ]
            handle.remove()
            weights[layer.name] = float(torch.stack(changes).mean()) / taken
    return weights
