"""Checkpoints that are whole or refused: tensors as safetensors, the rest as JSON, and a list of hashes written last.

::

    weights.safetensors     the weights that the optimiser moves
    average.safetensors     their moving average
    best.safetensors        the average at the best validation so far
    validation.safetensors  the scores of that, sample by sample
    optimizer.safetensors   the optimiser's moments, by parameter
    progress.json           epoch, step within it, scores so far, settings
    sha256sums              hash and name of each file above; written last, so what lacks it is incomplete

Nothing random needs to be kept: order and variation of the samples follow from seed, epoch and sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cutray.errors import CheckpointError, CutrayError
from cutray.imaging.files import write_atomically

_SUMS = "sha256sums"
_PROGRESS = "progress.json"


@dataclass(slots=True)
class TrainState:
    """How far a run has come.

    Attributes:
        epoch: Epoch in work, from 0.
        step: Steps of it that are done.
        total_steps: Steps done in all epochs.
        best_score: Best validation score so far.
        best_epoch: Epoch it was reached in, or -1.
        seconds: Time spent on training so far.
        history: One entry per finished epoch.
        settings_hash: Fingerprint of settings and data; a run goes on only with the same ones.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    best_score: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    settings_hash: str = ""


@dataclass(slots=True)
class Checkpoint:
    """All that is needed to go on as if nothing had happened; tensors by part and name."""

    state: TrainState
    tensors: dict[str, dict[str, Tensor]]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint.

    Args:
        folder: An empty folder.
        checkpoint: What to keep; parts without tensors are left out.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
    """
    files = {
        f"{part}.safetensors": save({name: value.contiguous() for name, value in tensors.items()})
        for part, tensors in checkpoint.tensors.items()
        if tensors
    }
    files[_PROGRESS] = json.dumps(asdict(checkpoint.state), indent=1).encode()
    for name, data in files.items():
        write_atomically(folder / name, data, overwrite=True)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    write_atomically(folder / _SUMS, sums.encode(), overwrite=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint after comparing every file with its hash.

    Raises:
        CheckpointError: A file is missing, cut off or altered.
    """
    try:
        lines = [line.split("  ", 1) for line in (folder / _SUMS).read_text().splitlines()]
        sums = {name: digest for digest, name in lines}
        files = {name: (folder / name).read_bytes() for name in sums}
    except (OSError, ValueError) as error:
        raise CheckpointError(got=f"checkpoint {folder.name} is incomplete: {error}", fix="use an older one") from error
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise CheckpointError(
                got=f"{name} of checkpoint {folder.name} is damaged: its hash differs", fix="go on from an older one"
            )
    try:
        state = TrainState(**json.loads(files.pop(_PROGRESS)))
        tensors = {name.removesuffix(".safetensors"): dict(load(data)) for name, data in files.items()}
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            got=f"checkpoint {folder.name} is of another version: {error}", fix="train anew, under another name"
        ) from error
    return Checkpoint(state, tensors)


def name_checkpoint(state: TrainState) -> str:
    """Return the name of a checkpoint's folder; names sort by age."""
    return f"checkpoint_{state.total_steps:09d}_{state.epoch:04d}"


def checkpoint_folders(run_dir: Path) -> list[Path]:
    """Return the folders of a run's checkpoints, whole or not, the oldest first."""
    return sorted(run_dir.glob("checkpoint_[0-9]*"))


def newest_whole(run_dir: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint of a run that is whole, and what was wrong with newer ones."""
    problems: list[str] = []
    for folder in reversed(checkpoint_folders(run_dir)):
        try:
            return read_checkpoint(folder), problems
        except CutrayError as error:
            problems.append(str(error))
    return None, problems


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Name an optimiser's tensors by parameter number and key."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {f"{number}.{key}": torch.as_tensor(value) for number, kept in state.items() for key, value in kept.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``pack_optimizer`` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    # Fused kernels pair elements by their place in memory, so that moments need the layout of their weights.
    for weight in (one for group in optimizer.param_groups for one in group["params"]):
        kept = optimizer.state[weight]
        for key, value in kept.items():
            if value.shape == weight.shape:
                kept[key] = torch.empty_like(weight, requires_grad=False).copy_(value)
