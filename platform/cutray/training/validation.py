"""Scores a network on the validation samples, spread over the workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

METRICS = ("iou", "mae", "f_score")
_BETA_SQUARED = 0.3


@torch.no_grad()
def validate(network: nn.Module, batches: Iterable[dict[str, Tensor]], forward: Any) -> Tensor:
    """Score a worker's samples, one by one.

    Args:
        network: In evaluation mode, giving logits (N, 1, S, S) first.
        batches: ``image`` (N, 3, S, S) float32 normalised, ``alpha`` (N, 1, S, S) float32 in [0, 1].
        forward: Runs the network, in its precision.

    Returns:
        (N, 3) float64: IoU and F-measure (β² = 0.3) at 0.5 and the mean absolute error in the order of ``METRICS``. A
        sample that is empty in truth counts as right when nothing is found.
    """
    rows = [torch.zeros((0, len(METRICS)), dtype=torch.float64)]
    for batch in batches:
        probs = forward(network, batch["image"])[0].float().sigmoid()
        target = batch["alpha"]
        predicted, actual = probs > 0.5, target > 0.5
        both, either = (predicted & actual).sum((1, 2, 3)), (predicted | actual).sum((1, 2, 3))
        empty = either == 0
        iou = torch.where(empty, 1.0, both / either.clamp_min(1))
        precision, recall = both / predicted.sum((1, 2, 3)).clamp_min(1), both / actual.sum((1, 2, 3)).clamp_min(1)
        score = (1 + _BETA_SQUARED) * precision * recall / (_BETA_SQUARED * precision + recall).clamp_min(1e-9)
        error = (probs - target).abs().mean((1, 2, 3))
        rows.append(torch.stack([iou, error, torch.where(empty, 1.0, score)], 1).double().cpu())
    return torch.cat(rows)


def means_of(scores: Tensor) -> dict[str, float]:
    """Return the mean of each metric.

    Args:
        scores: (N, 3), from ``validate``.
    """
    return dict(zip(METRICS, scores.mean(0).tolist(), strict=True))
