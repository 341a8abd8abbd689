"""Finds a learning rate by a range test: the rate rises with each step, and the loss tells which rates teach.

Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cutray.config import TrainSettings
from cutray.data.loading import SampleSpec
from cutray.errors import TrainingError
from cutray.imaging.files import write_atomically
from cutray.training.scratch import scratch_trainer
from cutray.training.trainer import Trainer

# Share of the old value in the running mean of the losses, which single batches shake.
_SMOOTHING = 0.9
# A loss so many times the lowest one means that the rate is too high: nothing comes after it.
_DIVERGED = 4.0
_FEWEST_STEPS = 10


@dataclass(frozen=True, slots=True)
class LrRange:
    """What a range test has measured.

    Attributes:
        rates: Learning rate of each step, rising.
        losses: Loss of each step, smoothed.
        suggestion: The rate at which the loss falls fastest.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float

    def write(self, picture: Path) -> Path:
        """Draw the losses over the rates, and write both beside the picture as JSON.

        Args:
            picture: A .png file.

        Returns:
            The JSON file.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.suggestion, linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.legend()
        axes.grid(visible=True, alpha=0.3)
        figure.savefig(picture, dpi=120, format="png")
        figures = picture.with_suffix(".json")
        write_atomically(figures, json.dumps(asdict(self), indent=1).encode(), overwrite=True)
        return figures


def find_lr(
    settings: TrainSettings,
    samples: Sequence[SampleSpec],
    *,
    min_lr: float = 1e-7,
    max_lr: float = 1.0,
    num_training: int = 100,
) -> LrRange:
    """Try rising learning rates in this process, on weights of its own; the run is not begun.

    Args:
        settings: Those of the run; its own rate has no effect.
        samples: Its samples to learn from.
        min_lr: First rate.
        max_lr: Last rate, unless the loss diverges before.
        num_training: Steps, each with a rate higher by the same factor.

    Raises:
        TrainingError: There are too few steps, or too few samples for one; or the loss diverged too soon to tell.
    """
    if not 0 < min_lr < max_lr or num_training < _FEWEST_STEPS:
        raise TrainingError(
            got=f"rates from {min_lr:g} to {max_lr:g} in {num_training} steps",
            allowed=f"rising rates above 0, and at least {_FEWEST_STEPS} steps",
            fix="change them",
        )
    if len(samples) < settings.optim.batch_size:
        raise TrainingError(
            got=f"{len(samples)} samples for batches of {settings.optim.batch_size}",
            allowed="at least one batch",
            fix="lower --batch-size, or give more photos",
        )
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    with scratch_trainer(settings, samples) as trainer:
        wanted = np.geomspace(min_lr, max_lr, num_training).tolist()
        for number, (rate, (image, alpha)) in enumerate(zip(wanted, _endless(trainer), strict=False), 1):
            trainer.step.run(image, alpha, rate, number)
            trainer.state.total_steps += 1  # decides on the scale of the next batch
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * trainer.step.last_loss()
            loss = mean / (1 - _SMOOTHING**number)  # the mean began at 0
            if not math.isfinite(loss) or (number > _FEWEST_STEPS and loss > _DIVERGED * min(losses)):
                break
            rates.append(rate)
            losses.append(loss)
    return LrRange(rates, losses, suggest_lr(rates, losses))


def suggest_lr(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate at which the loss falls fastest, over the logarithm of the rate.

    Args:
        rates: Rising.
        losses: As many, smoothed.

    Raises:
        TrainingError: There are too few of them.
    """
    if len(rates) < _FEWEST_STEPS:
        raise TrainingError(
            got=f"{len(rates)} steps before the loss diverged",
            allowed=f"at least {_FEWEST_STEPS}",
            fix="begin with a lower rate, or check the data with `cutray train --check`",
        )
    slopes = np.gradient(np.asarray(losses), np.log(rates))
    # The running mean of the first tenth is that of few batches, and tells more about them than about the rate.
    first = len(rates) // 10
    return float(rates[first + int(np.argmin(slopes[first:]))])


def _endless(trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through the samples again and again."""
    while True:
        yield from trainer.inputs()
        trainer.state.epoch += 1
