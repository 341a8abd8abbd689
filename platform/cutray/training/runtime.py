"""How the processes of a run work together: by Ray Train, or one process by itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from cutray.data.loading import Loader, SampleSpec, iter_batches, iter_batches_here
from cutray.training import checkpoints
from cutray.training.checkpoints import Checkpoint


class Runtime(Protocol):
    """What the training loop needs of its surroundings.

    Attributes:
        rank: Number of this process.
        world_size: How many processes there are.
        device: Where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Have gradients shared among the processes."""

    def batches(self, samples: Sequence[SampleSpec], loader: Loader, size: int, tasks: int) -> Iterator[dict[str, Any]]:
        """Load batches in the order of the samples; see ``cutray.data.loading.iter_batches``."""

    def report(self, metrics: dict[str, float], checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep a checkpoint; all processes take part, and the first one's is kept."""

    def publish(self, latest: dict[str, Any]) -> None:
        """Tell whoever looks on the latest figures, without waiting."""

    def warn(self, problems: list[str]) -> None:
        """Tell whoever looks on what is wrong."""


class RayRuntime:
    """One of several processes that Ray Train has started."""

    def __init__(self, progress_actor: Any) -> None:
        """Find out which one this is.

        Args:
            progress_actor: Collects what a person sees; None for nobody.
        """
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._progress_actor = progress_actor

    def wrap(self, model: nn.Module) -> nn.Module:
        """Have gradients shared among the processes."""
        import ray.train.torch

        wrapped: nn.Module = ray.train.torch.prepare_model(model) if self.world_size > 1 else model
        return wrapped

    def batches(self, samples: Sequence[SampleSpec], loader: Loader, size: int, tasks: int) -> Iterator[dict[str, Any]]:
        """Load batches through Ray Data."""
        return iter_batches(samples, loader, size, tasks)

    def report(self, metrics: dict[str, float], checkpoint: Callable[[], Checkpoint]) -> None:
        """Hand a checkpoint to Ray Train, which copies it into the run's folder."""
        import ray.train

        if self.rank:
            ray.train.report(metrics)
            return
        kept = checkpoint()
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.write_checkpoint(Path(folder), kept)
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=checkpoints.name_checkpoint(kept.state),
            )

    def publish(self, latest: dict[str, Any]) -> None:
        """Send the latest figures to the progress actor."""
        if self.rank == 0 and self._progress_actor is not None:
            self._progress_actor.update.remote(latest)

    def warn(self, problems: list[str]) -> None:
        """Send warnings to the progress actor."""
        if self.rank == 0 and self._progress_actor is not None and problems:
            self._progress_actor.warn.remote(problems)


class LocalRuntime:
    """The only process of a run; needs no Ray."""

    rank, world_size = 0, 1

    def __init__(
        self, run_dir: Path, keep: int, device: torch.device, publish: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """Remember where checkpoints go.

        Args:
            run_dir: Folder of the run.
            keep: Newest checkpoints that are kept.
            device: Where to compute.
            publish: Receives the latest figures, and warnings under ``warnings``.
        """
        self.device = device
        self._run_dir, self._keep, self._publish = run_dir, keep, publish

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model as it is."""
        return model

    def batches(self, samples: Sequence[SampleSpec], loader: Loader, size: int, tasks: int) -> Iterator[dict[str, Any]]:
        """Load batches in threads of this process."""
        return iter_batches_here(samples, loader, size, tasks)

    def report(self, metrics: dict[str, float], checkpoint: Callable[[], Checkpoint]) -> None:  # noqa: ARG002
        """Write a checkpoint into the run's folder and remove those that are too many."""
        kept = checkpoint()
        folder = self._run_dir / checkpoints.name_checkpoint(kept.state)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.write_checkpoint(folder, kept)
        for old in checkpoints.checkpoint_folders(self._run_dir)[: -self._keep]:
            shutil.rmtree(old)

    def publish(self, latest: dict[str, Any]) -> None:
        """Hand over the latest figures."""
        if self._publish is not None:
            self._publish(latest)

    def warn(self, problems: list[str]) -> None:
        """Hand over warnings."""
        if problems:
            self.publish({"warnings": problems})
