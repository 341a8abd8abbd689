"""Fit convolutions of low rank to those of a network, layer by layer, by least squares.

The network runs once on a batch whose first half are photos and whose second half are the same photos again. In each
layer the first half goes on through the original convolution. The second half goes through one of low rank, which is
fitted on the spot to the first half's responses. So each layer makes up for what the layers before it have lost.

Source: Zhang et al. (2016), see ``LowRankConv``, sections 3.2 (the ReLU) and 3.3 (layer by layer).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cutray.models.export import round_to_eight_bits
from cutray.models.layers import LowRankConv, join_below, resize_like
from cutray.models.state_dicts import restore_weight
from cutray.models.u2net import U2Net
from pipelines.compress.layers import Layer
from pipelines.compress.ranks import Ranks
from pipelines.compress.responses import Responses

_CELLS_PER_PHOTO = 700
# All weights of a layer are fitted if there are so many times as many samples as inputs, and not too many inputs.
_SAMPLES_PER_INPUT, _MOST_INPUTS = 3, 4700
# Ridge, as a share of the mean square of the inputs: towards the original weights, and towards none.
_RIDGE, _RIDGE_EXPAND = 2e-3, 1e-4
_RELU_ROUNDS = 2
# How a kernel of 3 taps on a grid looks on one of half the resolution, if what it sees was enlarged linearly.
_COARSER = torch.tensor([[0.5, 0.0, 0.0], [0.5, 1.0, 0.5], [0.0, 0.0, 0.5]])


def reconstruct(
    network: U2Net,
    layers: Sequence[Layer],
    responses: Mapping[str, Responses],
    ranks: Ranks,
    photos: Sequence[Tensor],
    report: Callable[[int], None],
) -> U2Net:
    """Return a network of low rank that answers as the given one does.

    It takes about 150 MB of memory per photo of 288 pixels. Weights are rounded to the eight bits of the file.

    Args:
        network: In evaluation mode.
        layers: From ``list_layers``.
        responses: From ``measure_responses``.
        ranks: From ``choose_ranks``.
        photos: (1, 3, S, S) float32 each, prepared for the network.
        report: Called after each layer with 1.
    """
    fitted = copy.deepcopy(network)
    for layer in layers:
        fitted.set_submodule(layer.name, _FittedLayer(layer, ranks[layer.name], responses[layer.name], report))
    with torch.no_grad():
        fitted(torch.cat([*photos, *photos]))
    for layer in layers:
        one = fitted.get_submodule(layer.name)
        assert isinstance(one, _FittedLayer)
        fitted.set_submodule(layer.name, one.low)
    return fitted.eval()


class _FittedLayer(nn.Module):
    """Stands in the place of one convolution for the one pass in which it is fitted."""

    def __init__(self, layer: Layer, rank: int | None, responses: Responses, report: Callable[[int], None]) -> None:
        super().__init__()
        self.layer, self.rank, self.responses, self.report = layer, rank, responses, report
        channels_out, channels_in = layer.weight.shape[:2]
        self.low = LowRankConv(channels_in, channels_out, rank, layer.dilation, layer.channels_below)

    def forward(self, x: Tensor, below: Tensor | None = None) -> Tensor:
        """Fit the layer of low rank, then map (2N, C, H, W) to (2N, K, H, W): the original's and its own answers."""
        count = len(x) // 2
        pairs = [(x[i : i + 1], None if below is None else below[i : i + 1]) for i in range(2 * count)]
        originals = [self._original(*pair) for pair in pairs[:count]]
        cells = torch.randperm(x[0, 0].numel(), generator=torch.Generator().manual_seed(0))[:_CELLS_PER_PHOTO]
        wanted = torch.cat([one[0].flatten(1)[:, cells] for one in originals], 1).T
        self._set_spatial(self._fit_spatial(pairs[count:], cells, wanted))
        compressed = [self.low.compress(*pair) for pair in pairs[count:]]
        samples = torch.cat([one[0].flatten(1)[:, cells] for one in compressed], 1).T
        if self.low.expand is None:
            assert self.low.conv.bias is not None
            shift = (wanted - samples).mean(0)
            self.low.conv.bias += shift
            compressed = [one + shift[:, None, None] for one in compressed]
        else:
            self._fit_expand(samples, wanted)
        self.report(1)
        return torch.cat([*map(functional.relu, originals), *map(self.low.finish, compressed)])

    def _original(self, x: Tensor, below: Tensor | None) -> Tensor:
        """Return the original's response, before its ReLU."""
        dilation = self.layer.dilation
        return functional.conv2d(
            join_below(x, below), self.layer.weight, self.layer.bias, padding=dilation, dilation=dilation
        )

    def _fit_spatial(self, pairs: Sequence[tuple[Tensor, Tensor | None]], cells: Tensor, wanted: Tensor) -> Tensor:
        """Return the weights of the 3×3 convolutions, (rank or K, C, 3, 3)."""
        weight, split = self.layer.weight, self.layer.channels_below
        start = torch.cat((_on_coarser_grid(weight[:, :split]), weight[:, split:]), 1)
        inputs = start[0].numel()
        is_exact = self.rank is None and not split
        if not is_exact and inputs <= min(_MOST_INPUTS, len(wanted) / _SAMPLES_PER_INPUT):
            seen = torch.cat([self._neighbourhoods(*pair, cells) for pair in pairs], 1).T
            return _reduced_rank(seen, wanted, start.flatten(1), self.rank).reshape(-1, *start.shape[1:])
        if self.rank is None:
            return start
        return torch.einsum("kr,kcij->rcij", self.responses.directions[:, : self.rank], start)

    def _neighbourhoods(self, x: Tensor, below: Tensor | None, cells: Tensor) -> Tensor:
        """Return what a 3×3 convolution sees at some cells, (9C, cells)."""
        parts = []
        if self.layer.channels_below:
            assert below is not None
            taps = [resize_like(tap, x)[0].flatten(1)[:, cells] for tap in _shifted(below, 1)]
            parts.append(torch.stack(taps, 1).flatten(0, 1))
            below = None
        taps = [tap[0].flatten(1)[:, cells] for tap in _shifted(join_below(x, below), self.layer.dilation)]
        parts.append(torch.stack(taps, 1).flatten(0, 1))
        return torch.cat(parts)

    def _set_spatial(self, weight: Tensor) -> None:
        """Take over the weights of the 3×3 convolutions, as they will be stored."""
        split = self.layer.channels_below
        self.low.conv.weight.copy_(_as_stored(weight[:, split:]))
        if self.low.conv.bias is not None:
            self.low.conv.bias.copy_(self.layer.bias)
        if self.low.conv_below is not None:
            self.low.conv_below.weight.copy_(_as_stored(weight[:, :split]))

    def _fit_expand(self, samples: Tensor, wanted: Tensor) -> None:
        """Fit the 1×1 convolution to what the 3×3 convolutions give, (cells, rank), and ought to give, (cells, K)."""
        assert self.low.expand is not None and self.low.expand.bias is not None
        centre = samples.mean(0)
        solve = _ridge_solver(samples - centre, _RIDGE_EXPAND)
        target = wanted
        for _ in range(_RELU_ROUNDS + 1):
            weight = _as_stored(solve(target - target.mean(0)).T).T
            answer = (samples - centre) @ weight + target.mean(0)
            bias = target.mean(0) - centre @ weight
            target = _forgive_negatives(wanted, answer)
        self.low.expand.weight.copy_(weight.T[:, :, None, None])
        self.low.expand.bias.copy_(bias)


def _reduced_rank(seen: Tensor, wanted: Tensor, start: Tensor, rank: int | None) -> Tensor:
    """Return the weights, (rank or K, 9C), from which (cells, 9C) inputs predict (cells, K) responses best.

    Source: Izenman, "Reduced-rank regression for the multivariate linear model", Journal of Multivariate Analysis 5
    (1975), theorem 1.
    """
    seen = seen - seen.mean(0)
    solve = _ridge_solver(seen, _RIDGE)
    target = wanted
    for _ in range(_RELU_ROUNDS + 1):
        centre = target.mean(0)
        weight = start.T + solve(target - centre - seen @ start.T)
        answer = seen @ weight
        if rank is None:
            kept = torch.eye(weight.shape[1])
        else:
            kept = torch.linalg.eigh((answer.T @ answer).double())[1].flip(1)[:, :rank].float()
            answer = answer @ kept @ kept.T
        target = _forgive_negatives(wanted, answer + centre)
    return (weight @ kept).T


def _ridge_solver(inputs: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """Return a function that maps (cells, K) targets to the (C, K) weights of least squares."""
    product = inputs.T @ inputs
    product += ridge * product.diagonal().mean().clamp(min=1e-12) * torch.eye(len(product))
    factor = torch.linalg.cholesky(product)
    return lambda targets: torch.cholesky_solve(inputs.T @ targets, factor)


def _forgive_negatives(wanted: Tensor, answer: Tensor) -> Tensor:
    """Let any negative answer do where a negative one is wanted: the ReLU makes 0 of both."""
    return torch.where(wanted > 0, wanted, answer.clamp(max=0))


def _on_coarser_grid(weight: Tensor) -> Tensor:
    """Return the kernels (K, C, 3, 3) that do on a grid of half the resolution nearly what the given ones do."""
    return torch.einsum("ab,kcbd,ed->kcae", _COARSER, weight, _COARSER)


def _shifted(x: Tensor, by: int) -> list[Tensor]:
    """Return x moved to its nine neighbours, row by row, with zeros from outside."""
    padded = functional.pad(x, (by, by, by, by))
    rows, columns = x.shape[2:]
    return [padded[:, :, i * by : i * by + rows, j * by : j * by + columns] for i in range(3) for j in range(3)]


def _as_stored(weight: Tensor) -> Tensor:
    """Round weights (K, …) to the eight bits in which they are stored."""
    codes, steps = round_to_eight_bits(weight.numpy())
    return restore_weight(torch.from_numpy(codes), torch.from_numpy(steps))
