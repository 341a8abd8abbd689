"""How many channels each convolution keeps in its middle, for a given number of operations."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pipelines.compress.layers import Layer
from pipelines.compress.responses import Responses

# A stored number counts as so many multiplications, so that the file becomes small as well.
_OPERATIONS_PER_PARAMETER = 1000
_MOST_LOST_VARIANCE = 0.05
# Layers count for at least this much, because small losses of many add up to more than each alone.
_LEAST_WEIGHT = 1e-4
# Below this gain a layer stays as it is.
_WORTH_IT = 0.98
# Vector instructions work on so many channels at a time.
_WIDE_CHANNELS, _WIDE_STEP, _STEP = 64, 16, 8

Ranks = dict[str, int | None]


def choose_ranks(
    layers: Sequence[Layer], responses: Mapping[str, Responses], weights: Mapping[str, float], most_operations: float
) -> Ranks:
    """Choose the channels of each layer so that all together change the map the least.

    The change of the map is taken as the sum over layers of weight × lost variance. A price per operation is sought at
    which the best choice for each layer keeps within the limit.

    Args:
        layers: From ``list_layers``.
        responses: From ``measure_responses``.
        weights: From ``measure_weights``; the median stands for layers that were not measured.
        most_operations: Multiplications per photo of all layers together.

    Returns:
        For each layer the channels in its middle; None for a layer without one.
    """
    median = statistics.median(weights.values())
    full = {layer.name: max(weights.get(layer.name, median), _LEAST_WEIGHT) for layer in layers}

    def at(price: float) -> Ranks:
        return {layer.name: _best_rank(layer, responses[layer.name], full[layer.name], price) for layer in layers}

    low, high = 1e-24, 1.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        if count_operations(layers, at(middle)) > most_operations:
            low = middle
        else:
            high = middle
    return at(high)


def count_operations(layers: Sequence[Layer], ranks: Ranks) -> float:
    """Return the multiplications per photo of all layers."""
    return sum(layer.operations(ranks[layer.name]) for layer in layers)


def _best_rank(layer: Layer, responses: Responses, weight: float, price: float) -> int | None:
    """Return the rank of least loss and cost."""

    def cost(rank: int | None) -> float:
        return price * (layer.operations(rank) + _OPERATIONS_PER_PARAMETER * layer.parameters(rank))

    channels = len(layer.weight)
    step = _WIDE_STEP if channels >= _WIDE_CHANNELS else _STEP
    best, least = None, cost(None)
    for rank in range(step, channels, step):
        lost = float(responses.lost[rank - 1])
        total = weight * lost + cost(rank)
        if lost <= _MOST_LOST_VARIANCE and total < _WORTH_IT * least:
            best, least = rank, total
    return best
