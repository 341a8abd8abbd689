"""Builds the network that a run trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cutray.config import TrainSettings
from cutray.data.loading import Loader, SampleSpec
from cutray.errors import TrainingError
from cutray.models.catalog import ModelSpec, list_models
from cutray.models.u2net import U2Net, load_u2net
from cutray.models.weights import resolve
from cutray.training import batchnorm
from cutray.training.inputs import to_device_batch

_NORM_SAMPLES, _NORM_BATCH = 32, 4


def build_network(
    settings: TrainSettings, samples: Sequence[SampleSpec], device: torch.device
) -> tuple[U2Net, ModelSpec]:
    """Build the network with random weights, or with those the settings name.

    ONNX files hold no statistics for batch normalisation; these are measured on the first training samples.

    Args:
        settings: Architecture, seed and start.
        samples: Training samples.
        device: Where it will run.

    Returns:
        The network, in training mode, and how its input is prepared.

    Raises:
        WeightsError: The weights cannot be had.
        TrainingError: They are of the other architecture.
    """
    torch.manual_seed(settings.seed)
    side = settings.data.side_px
    if not settings.init:
        network = U2Net(settings.architecture)
        return _placed(network, device), replace(_official(settings.architecture), input_size_px=side)
    weights = resolve(settings.init)
    network = load_u2net(weights.path)
    if network.architecture != settings.architecture:
        raise TrainingError(
            got=f"{settings.init} holds {network.architecture}",
            allowed=settings.architecture,
            fix=f"set architecture to {network.architecture}",
        )
    spec = replace(weights.spec, input_size_px=side)
    if weights.path.suffix.lower() == ".onnx":
        loader = Loader(side, settings.seed, 0, settings.augment)
        chosen = samples[
            : _NORM_SAMPLES * max(1, len(samples) // _NORM_SAMPLES) : max(1, len(samples) // _NORM_SAMPLES)
        ]
        groups = [chosen[start : start + _NORM_BATCH] for start in range(0, len(chosen), _NORM_BATCH)]
        batchnorm.recalibrate(
            network,
            (
                to_device_batch(loader({"sample": np.array(group, object)}), spec, torch.device("cpu"))["image"]
                for group in groups
            ),
        )
    return _placed(network, device), spec


def set_frozen(network: U2Net, part: str) -> None:
    """Keep a part of a network from changing; to be called again after each ``train()``.

    Args:
        network: The network.
        part: encoder (the first six stages, and a stem), or none.
    """
    if part == "none":
        return
    for name, child in network.named_children():
        if name == "conv_in" or (name.startswith("stage") and not name.endswith("d")):
            child.requires_grad_(requires_grad=False).eval()


def trained_spec(settings: TrainSettings) -> ModelSpec:
    """Describe the weights that a run leads to: prepared like those it started from, at its own size."""
    if settings.init:
        start = resolve(settings.init).spec
    else:  # nothing of the published weights is in it, but how photos are prepared
        start = replace(
            _official(settings.architecture), trained_on=(), license="unknown", origin="trained from random weights"
        )
    return replace(
        start, input_size_px=settings.data.side_px, cpu_precisions=(), description=f"trained as {settings.name}"
    )


def _official(architecture: str) -> ModelSpec:
    """Return the description of the published weights of an architecture."""
    return next(spec for spec in list_models() if spec.architecture == architecture)


def _placed(network: U2Net, device: torch.device) -> U2Net:
    """Bring the network to its device, in the memory layout that convolutions are fastest in."""
    return network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]
