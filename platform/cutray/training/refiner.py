"""Train the edge refiner on crops with the remover's alphas. One process; the network is small."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cutray.config import RefinerSettings
from cutray.models.refiner import EdgeRefiner, RefinerOutput
from cutray.training.averaging import ModelEma
from cutray.training.schedule import lr_factor

# Pixels that are soft in the target or in the given alpha, and their neighbours, count this much more.
_BAND_WEIGHT, _BAND_REACH_PX = 4.0, 3
# Weights of differences of neighbours, and the number of coarser levels of the error.
_GRADIENT, _LEVELS = 1.0, 3
# Weight of the new alpha's cross-entropy, whose gradient does not vanish where it is sure and wrong.
_ENTROPY = 0.5
# A pixel made worse counts this many times as much as one made better.
_HARM = 3.0


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch to learn from.

    Attributes:
        image: (N, 3, H, W) float32 in [0, 1].
        alpha: (N, 1, H, W) float32 in [0, 1], what the remover gives without a refiner.
        target: (N, 1, H, W) float32 in [0, 1].
        weight: (N, 1, H, W) float32 in [0, 1], how reliable the target is.
    """

    image: Tensor
    alpha: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def stack(cls, image: np.ndarray, *planes: np.ndarray) -> Crops:
        """Build it from (N, H, W, 3) uint8 and three (N, H, W) uint8 arrays of 255ths."""
        colors = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
        return cls(colors, *(torch.from_numpy(plane)[:, None].float() / 255 for plane in planes))

    def to(self, device: torch.device) -> Crops:
        """Move it to a device."""
        return Crops(*(one.to(device, non_blocking=True) for one in (self.image, self.alpha, self.target, self.weight)))


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
    ema = ModelEma(network, settings.ema_decay)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    losses, since = [], time.perf_counter()
    for step in range(1, settings.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * lr_factor(step / settings.steps, settings.warmup_share)
        crops = next(batches).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            output = network(crops.image.contiguous(memory_format=torch.channels_last), crops.alpha)
        loss = refiner_loss(RefinerOutput(output.logits.float(), output.gate_logits.float()), crops)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
            ema.update(step)
            losses.append(float(loss.detach()))
        if step % settings.report_every_steps == 0 or step == settings.steps:
            now = time.perf_counter()
            speed = len(losses) * settings.batch_size / (now - since)
            report(Progress(step, float(np.mean(losses)), speed))
            losses, since = [], now
    return ema.network  # type: ignore[return-value]


def refiner_loss(output: RefinerOutput, crops: Crops) -> Tensor:
    """Compare the new alpha with the target, and the gate with where the new alpha is better than the given one.

    Args:
        output: In float32.
        crops: The batch that it was predicted for.

    Returns:
        A scalar.
    """
    target, alpha = crops.target, crops.alpha
    soft = ((target > 0.02) & (target < 0.98)) | ((alpha > 0) & (alpha < 1))
    size = 2 * _BAND_REACH_PX + 1
    weight = crops.weight * (1 + _BAND_WEIGHT * functional.max_pool2d(soft.float(), size, 1, _BAND_REACH_PX))
    weight = weight / weight.mean().clamp_min(1e-6)
    error = torch.sigmoid(output.logits) - target
    entropy = functional.binary_cross_entropy_with_logits(output.logits, target, weight)
    # The gate is weighted by the difference of the two errors; detached, so that it does not change the alpha.
    gain = ((alpha - target).abs() - error.detach().abs()) * crops.weight
    gate_weight = torch.where(gain > 0, gain, -_HARM * gain)
    gate = functional.binary_cross_entropy_with_logits(
        output.gate_logits, (gain > 0).float(), gate_weight, reduction="sum"
    )
    return _difference(error * crops.weight, weight) + _ENTROPY * entropy + gate / gate_weight.sum().clamp_min(1e-6)


def _difference(error: Tensor, weight: Tensor) -> Tensor:
    """Sum up an error of alphas, (N, 1, H, W): its size, that of its gradients, and that of coarser levels.

    Source: Hou, Liu 2019, "Context-Aware Image Matting for Simultaneous Foreground and Alpha Estimation", section
    3.3 (Laplacian and gradient terms); the sum over scales here is of averaged errors.
    """
    total = (error.abs() * weight).mean()
    for axis in (2, 3):
        total = total + _GRADIENT * error.diff(dim=axis).abs().mean()
    for _ in range(_LEVELS):
        error = functional.avg_pool2d(error, 2)
        total = total + 0.5 * error.abs().mean()
    return total
