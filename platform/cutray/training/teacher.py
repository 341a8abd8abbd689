"""Distillation: a network that is good already shows another one what it sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cutray.errors import TrainingError
from cutray.models.catalog import ModelSpec
from cutray.models.u2net import load_u2net
from cutray.models.weights import resolve


class Teacher:
    """Gives the maps that another network learns from, photo by photo, varied as the other one sees it.

    Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network" (2015); that both see the same
    variation: Beyer et al., "Knowledge distillation: a good teacher is patient and consistent" (2022).
    """

    def __init__(self, model: str, student: ModelSpec, device: torch.device) -> None:
        """Load it.

        Args:
            model: Its name or file.
            student: How the input of the network that learns is prepared.
            device: Where both run.

        Raises:
            WeightsError: The weights cannot be had, or are of another kind of network.
            TrainingError: Its input is prepared in another way.
        """
        weights = resolve(model)
        own = (weights.spec.scale, weights.spec.mean, weights.spec.std)
        if own != (student.scale, student.mean, student.std):
            raise TrainingError(
                got=f"the teacher {model} takes photos prepared by {own}",
                allowed=f"{(student.scale, student.mean, student.std)}, as the network that learns",
                fix="name a teacher of the same family, such as u2net",
            )
        network = load_u2net(weights.path).requires_grad_(requires_grad=False)
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._side_px = weights.spec.input_size_px

    @torch.no_grad()
    def probs(self, image: Tensor, forward: Any) -> Tensor:
        """Say what the subject is, at the teacher's own size.

        Args:
            image: (N, 3, H, W) float32, normalised.
            forward: Runs a network, in the precision of the run.

        Returns:
            (N, 1, H, W) float32 in [0, 1].
        """
        size = image.shape[2:]
        own = (self._side_px, self._side_px)
        seen = image if size == own else functional.interpolate(image, own, mode="bilinear", antialias=True)
        probs: Tensor = forward(self._network, seen.contiguous(memory_format=torch.channels_last))[0].float().sigmoid()
        return probs if size == own else functional.interpolate(probs, size, mode="bilinear", antialias=True)
