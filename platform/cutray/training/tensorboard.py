"""Writes a run down for TensorBoard: figures, and a few pictures of the validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutray.errors import MissingExtraError


def require_tensorboard() -> Any:
    """Return the class that writes files for TensorBoard.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            got="tensorboard is not installed", fix="run `pip install 'cutray[train,tensorboard]'`"
        ) from error
    return SummaryWriter


class TensorBoard:
    """The folder of one run that TensorBoard shows."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Begin, or go on.

        Args:
            folder: Folder of the run, beside those of others.
            first_step: What an interrupted run has written from this step on is left out by TensorBoard.
        """
        self._writer = require_tensorboard()(str(folder), purge_step=first_step)

    def log(self, figures: Mapping[str, float], step: int, group: str) -> None:
        """Note figures under the heading of a group."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def show(self, photos: Tensor, alphas: Tensor, probs: Tensor, step: int) -> None:
        """Show photos, each beside its truth and what the network makes of it.

        Args:
            photos: (N, 3, S, S) uint8.
            alphas: (N, 1, S, S) in [0, 1], the truth.
            probs: (N, 1, S, S) in [0, 1], of the network.
            step: Step of the run.
        """
        maps = [(255 * one).round().to(torch.uint8).expand(-1, 3, -1, -1) for one in (alphas, probs)]
        self._writer.add_images("validation: photo, truth, result", torch.cat([photos, *maps], 3), step)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
