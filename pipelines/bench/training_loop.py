"""Compares the training step with a textbook loop on a processor: what both cost, and whether losses are the same.

python -m pipelines.bench.training_loop
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import click
import torch
from torch import Tensor, nn

from cutray.config import LossSettings, OptimSettings
from cutray.console.run import run
from cutray.models.u2net import U2Net
from cutray.training.averaging import ModelEma
from cutray.training.losses import deep_supervision_loss
from cutray.training.step import TrainStep

_RATE = 1e-4
_WARM_UP = 3


@click.command("training_loop")
@click.option("--side", default=128, show_default=True, type=click.IntRange(min=32), help="Side of the photos, pixels.")
@click.option("--batch", default=4, show_default=True, type=click.IntRange(min=2), help="Photos per step.")
@click.option("--steps", default=14, show_default=True, type=click.IntRange(min=_WARM_UP + 1), help="Steps of each.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Processor threads.")
@click.option("--double", is_flag=True, help="In double precision, where losses stay the same for many steps.")
def training_loop(side: int, batch: int, steps: int, threads: int, *, double: bool) -> None:
    """Take steps of both in turn, with u2netp, and compare their processor time and losses."""
    kind = torch.float64 if double else torch.float32
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network: Any = U2Net("u2netp").to(dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ours, theirs = _step(network), _textbook(copy.deepcopy(network))
    dice = torch.Generator().manual_seed(0)
    times: tuple[list[float], list[float]] = ([], [])
    apart = []
    for number in range(1, steps + 1):
        image = torch.randn(batch, 3, side, side, generator=dice).to(kind, memory_format=torch.channels_last)
        alpha = (torch.rand(batch, 1, side, side, generator=dice) > 0.5).to(kind)
        losses = []
        for take, taken in zip((ours, theirs), times, strict=True):
            started = time.process_time()
            losses.append(take(image, alpha, number))
            taken.append(time.process_time() - started)
        apart.append(abs(losses[0] - losses[1]))
    ratio = statistics.median(one / two for one, two in zip(times[0][_WARM_UP:], times[1][_WARM_UP:], strict=True))
    first, last = (statistics.median(taken[_WARM_UP:]) for taken in times)
    click.echo(f"processor time of a step: {first:.3f} s, of a textbook's {last:.3f} s, ratio {ratio:.3f}", err=True)
    facts = {"step_s": first, "textbook_s": last, "ratio": ratio, "loss_differences": apart}
    click.echo(json.dumps({"job": "bench training_loop", **facts}))


def _loss(network: nn.Module, image: Tensor, alpha: Tensor) -> Tensor:
    """Return the loss of a batch."""
    return deep_supervision_loss(network(image), alpha, LossSettings())


def _step(network: nn.Module) -> Callable[[Tensor, Tensor, int], float]:
    """Return what takes a step as training does."""
    settings = OptimSettings(lr=_RATE)
    ema = ModelEma(network, settings.ema_decay)
    step = TrainStep(network, ema, lambda image, alpha: _loss(network, image, alpha), settings, torch.device("cpu"))

    def take(image: Tensor, alpha: Tensor, number: int) -> float:
        step.run(image, alpha, _RATE, number)
        return step.last_loss()

    return take


def _textbook(network: nn.Module) -> Callable[[Tensor, Tensor, int], float]:
    """Return what takes a step as textbooks do: it looks at the loss and at the norm, and decides on the processor."""
    settings = OptimSettings(lr=_RATE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=settings.weight_decay)
    mean = {name: value.clone() for name, value in network.state_dict().items()}

    def take(image: Tensor, alpha: Tensor, number: int) -> float:
        optimizer.zero_grad()
        loss = _loss(network, image, alpha)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
        decay = min(settings.ema_decay, (1 + number) / (10 + number))
        for name, value in network.state_dict().items():
            mean[name] = torch.lerp(value, mean[name], decay) if value.is_floating_point() else value.clone()
        return float(loss.detach())

    return take


if __name__ == "__main__":
    sys.exit(run(training_loop))
