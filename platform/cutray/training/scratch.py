"""A trainer to try things out with: it computes like that of a run, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from cutray.config import TrainSettings
from cutray.data.loading import SampleSpec
from cutray.training.network import set_frozen
from cutray.training.runtime import LocalRuntime
from cutray.training.trainer import Trainer, TrainJob


@contextmanager
def scratch_trainer(
    settings: TrainSettings, samples: Sequence[SampleSpec], *, device: torch.device | None = None
) -> Iterator[Trainer]:
    """Build the trainer of a run in this process, with weights of its own, and put everything back afterwards.

    Random generators and the number of threads are as before; no folder of a run is read or written.

    Args:
        settings: Those of the run.
        samples: Its samples to learn from.
        device: Where to compute; None takes a GPU if there is one.
    """
    quiet = {"workers": 1, "profile": "", "tensorboard": "", "tracking_uri": "none"}
    alone = settings.model_copy(update=quiet)
    place = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        try:
            job = TrainJob(alone, list(samples), [], folder, ("",))
            trainer = Trainer(job, LocalRuntime(Path(folder), alone.keep_checkpoints, place))
            trainer.ddp_model.train()
            set_frozen(trainer.model, alone.freeze)
            yield trainer
        finally:
            torch.set_num_threads(threads)
