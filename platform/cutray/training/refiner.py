"""Trains the edge refiner: crops with coarse alphas in, weights out. One process; the network is small."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cutray.config import RefinerSettings
from cutray.models.refiner import EdgeRefiner
from cutray.training.averaging import MovingAverage
from cutray.training.schedule import rate_at

# Pixels that are soft in the truth or the coarse alpha, and their neighbours, count this much more.
_BAND_WEIGHT, _BAND_REACH_PX = 4.0, 3
# Weights of differences of neighbours, and of the coarser levels of the error.
_GRADIENT, _LEVELS, _ENTROPY = 1.0, 3, 1.0


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch to learn from.

    Attributes:
        image: (N, 3, H, W) float32 in [0, 1].
        coarse: (N, 1, H, W) float32 in [0, 1].
        truth: (N, 1, H, W) float32 in [0, 1].
    """

    image: Tensor
    coarse: Tensor
    truth: Tensor

    @classmethod
    def stack(cls, image: np.ndarray, coarse: np.ndarray, truth: np.ndarray) -> Crops:
        """Build it from (N, H, W, 3) uint8 and two (N, H, W) float32 arrays."""
        colors = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
        return cls(colors, torch.from_numpy(coarse)[:, None], torch.from_numpy(truth)[:, None])

    def to(self, device: torch.device) -> Crops:
        """Move it to a device."""
        return Crops(*(one.to(device, non_blocking=True) for one in (self.image, self.coarse, self.truth)))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        step: Steps done.
        loss: Mean loss since the last report.
        crops_per_s: Crops learned from per second.
    """

    step: int
    loss: float
    crops_per_s: float


def train_refiner(
    network: EdgeRefiner, batches: Iterator[Crops], settings: RefinerSettings, report: Callable[[Progress], None]
) -> EdgeRefiner:
    """Train a refiner.

    Args:
        network: What is trained, in place; random weights or those of an earlier training.
        batches: Where to learn from, without end.
        settings: Steps, rate and so on.
        report: Called every ``settings.report_every_steps`` steps.

    Returns:
        The average of the weights, ready to run.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = MovingAverage(network, settings.ema_decay)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    losses, since = [], time.perf_counter()
    for step in range(1, settings.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate_at(step / settings.steps, settings.warmup_share)
        crops = next(batches).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(crops.image.contiguous(memory_format=torch.channels_last), crops.coarse)
        loss = refiner_loss(logits.float(), crops)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
            average.update(network, step)
            losses.append(float(loss.detach()))
        if step % settings.report_every_steps == 0 or step == settings.steps:
            now = time.perf_counter()
            speed = len(losses) * settings.batch_size / (now - since)
            report(Progress(step, float(np.mean(losses)), speed))
            losses, since = [], now
    return average.network  # type: ignore[return-value]


def refiner_loss(logits: Tensor, crops: Crops) -> Tensor:
    """Compare alphas: absolute differences, heavier in the soft band, at several scales, and those of gradients.

    Args:
        logits: (N, 1, H, W) float32.
        crops: What they belong to.

    Returns:
        A scalar.

    Source: Hou, Liu 2019, "Context-Aware Image Matting for Simultaneous Foreground and Alpha Estimation", section
    3.3 (Laplacian and gradient terms); the sum over scales here is of averaged errors.
    """
    alpha, truth = torch.sigmoid(logits), crops.truth
    soft = ((truth > 0.02) & (truth < 0.98)) | ((crops.coarse > 0) & (crops.coarse < 1))
    size = 2 * _BAND_REACH_PX + 1
    weight = 1 + _BAND_WEIGHT * functional.max_pool2d(soft.float(), size, 1, _BAND_REACH_PX)
    weight = weight / weight.mean()
    error = alpha - truth
    total = (error.abs() * weight).mean()
    total = total + _ENTROPY * functional.binary_cross_entropy_with_logits(logits, truth, weight)
    for axis in (2, 3):
        total = total + _GRADIENT * error.diff(dim=axis).abs().mean()
    for _ in range(_LEVELS):
        error = functional.avg_pool2d(error, 2)
        total = total + 0.5 * error.abs().mean()
    return total
