"""One worker of a training run: the loop that Ray Train runs in every process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cutray.config import TrainSettings
from cutray.data.stream import Loader, Row, share_of, shuffled, stream
from cutray.errors import TrainingError
from cutray.training import checkpoints
from cutray.training.averaging import MovingAverage, mixed
from cutray.training.checkpoints import Checkpoint, Progress
from cutray.training.inputs import as_tensors
from cutray.training.losses import deep_loss
from cutray.training.network import build_network
from cutray.training.schedule import rate_at
from cutray.training.teacher import Teacher
from cutray.training.tracking import Tracker
from cutray.training.validation import METRICS, validate

_MAX_BAD_STEPS = 20
_TELL_EVERY_S = 0.5
_KEPT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """What the launcher hands to every worker.

    Attributes:
        settings: The run's settings.
        train: Rows of the training samples.
        validation: Rows of the validation samples.
        run_dir: Folder of the run, the same on all machines.
        settings_hash: Fingerprint of settings and data.
        board: Actor that collects what a person sees; None tells nobody.
        tracking: Address of the MLflow store and the run's id, or None.
    """

    settings: TrainSettings
    train: list[Row]
    validation: list[Row]
    run_dir: str
    settings_hash: str
    board: Any = None
    tracking: tuple[str, str] | None = None


def train_worker(config: dict[str, Job]) -> dict[str, float] | None:
    """Train; Ray Train calls this in every process with the same job."""
    return Worker(config["job"]).run()


class Worker:
    """State and steps of one process. All of them do the same, on different samples."""

    def __init__(self, job: Job) -> None:
        """Build network and optimiser, and take up the newest whole checkpoint if there is one."""
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.job, self.settings = job, job.settings
        _require_divisible(self.settings, self.world_size)
        _set_threads(self.settings, self.world_size)
        self.device = ray.train.torch.get_device()
        self.core, self.spec = build_network(self.settings, job.train, self.device)
        kept = self.settings.optim.keep_start > 0
        self.start = {name: value.clone() for name, value in self.core.state_dict().items()} if kept else {}
        self.teacher = Teacher(self.settings.teacher, self.spec, self.device) if self.settings.teacher else None
        self.optimizer = torch.optim.AdamW(
            self.core.parameters(), lr=self.settings.optim.lr, weight_decay=self.settings.optim.weight_decay
        )
        self.average = MovingAverage(self.core, self.settings.optim.ema_decay)
        self.best: dict[str, Tensor] = {}
        self.progress = Progress(settings_hash=job.settings_hash)
        self._resume()
        wrapped: nn.Module = ray.train.torch.prepare_model(self.core) if self.world_size > 1 else self.core
        self.network, self.compare = cast("Any", wrapped), cast("Any", deep_loss)
        if self.settings.compile:
            self.network, self.compare = torch.compile(wrapped), torch.compile(deep_loss)
        self.tracker = Tracker(job.tracking if self.rank == 0 else None, machine=True)
        self.steps_per_epoch = len(job.train) // self.settings.optim.batch_size
        self.bf16 = _computes_in_bf16(self.settings, self.device)
        self._started, self._told_at, self._bad_steps = time.monotonic(), 0.0, 0
        self._drawn: list[dict[str, Any]] = []  # for validation: to draw scenes takes longer than to score them
        self._share = 0.0  # of the run, when the last step began; to know it better all workers would have to agree

    def run(self) -> dict[str, float] | None:
        """Train to the end and return the last epoch's figures (worker 0 alone)."""
        optim = self.settings.optim
        last: dict[str, float] = dict(self.progress.history[-1]) if self.progress.history else {}
        while self.progress.epoch < optim.epochs and not self._is_over():
            loss, rate = self._train_epoch()
            last = self._finish_epoch(loss, rate)
        self.tracker.close()
        return last if self.rank == 0 else None

    def _train_epoch(self) -> tuple[float, float]:
        """Do what is left of an epoch; return the mean loss and photos per second."""
        self.network.train()
        optim, progress = self.settings.optim, self.progress
        total, done, started = 0.0, 0, time.monotonic()
        for batch in self._batches():
            self._share = self._share_done()
            if self._share >= 1.0:
                break
            loss = self._step(batch, optim.lr * rate_at(self._share, optim.warmup_share))
            progress.step += 1
            progress.total_steps += 1
            total, done = total + loss, done + 1
            self._tell(loss, done * optim.batch_size / (time.monotonic() - started))
            if progress.total_steps % self.settings.checkpoint_every_steps == 0:
                self._report({"epoch": progress.epoch, "step": progress.step, "loss": loss})
        seconds = time.monotonic() - started
        return total / max(done, 1), done * optim.batch_size / max(seconds, 1e-9)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """Stream this worker's part of the epoch, from the step at which it was left."""
        settings, progress = self.settings, self.progress
        size = settings.optim.batch_size
        rows = shuffled(self.job.train, settings.seed, progress.epoch)[progress.step * size :]
        own = share_of(rows, size, self.rank, self.world_size)
        loader = Loader(settings.data.side_px, settings.seed, progress.epoch, settings.augment)
        for batch in stream(own, loader, size // self.world_size, settings.data.loaders):
            yield as_tensors(batch, self.spec, self.device)

    def _step(self, batch: dict[str, Tensor], rate: float) -> float:
        """Move the weights once. A step whose gradient is not finite is left out, on all workers alike."""
        optim = self.settings.optim
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        parts = zip(batch["image"].chunk(optim.accumulate), batch["alpha"].chunk(optim.accumulate), strict=True)
        for image, alpha in parts:
            loss = self._loss(image, alpha)
            torch.autograd.backward(loss / optim.accumulate)
            total += float(loss.detach()) / optim.accumulate
        norm = nn.utils.clip_grad_norm_(self.core.parameters(), optim.clip_norm)
        # Workers share their gradients, so that all of them see the same norm and decide the same.
        if not torch.isfinite(norm):
            self._bad_steps += 1
            if self._bad_steps >= _MAX_BAD_STEPS:
                raise TrainingError(
                    got=f"{_MAX_BAD_STEPS} steps in a row had no finite gradient",
                    fix="lower optim.lr, or use precision fp32",
                )
            return total
        self._bad_steps = 0
        self.optimizer.step()
        self.average.update(self.core, self.progress.total_steps + 1)
        return total

    def _loss(self, image: Tensor, alpha: Tensor) -> Tensor:
        """Compare the network's maps with the truth, which is in part what the teacher sees if there is one."""
        if self.teacher is not None:
            alpha = torch.lerp(alpha, self.teacher.probs(image, self._forward), self.settings.teacher_share)
        loss: Tensor = self.compare(self._forward(self.network, image), alpha, self.settings.loss)
        return loss

    def _forward(self, network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """Run a network in the precision of the run."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs: tuple[Tensor, ...] = network(image)
        return outputs

    def _finish_epoch(self, loss: float, images_per_s: float) -> dict[str, float]:
        """Validate, remember the best weights, and report."""
        progress = self.progress
        kept = mixed(self.average.network, self.start, self.settings.optim.keep_start)
        scores = self._validate(kept)
        entry = {"epoch": float(progress.epoch), "loss": loss, "images_per_s": images_per_s, **scores}
        progress.history.append(entry)
        if scores["iou"] > progress.best_score:
            progress.best_score, progress.best_epoch = scores["iou"], progress.epoch
            self.best = kept.state_dict()
        self.tracker.log(entry, step=progress.epoch)
        progress.epoch, progress.step = progress.epoch + 1, 0
        self._tell(loss, images_per_s, now=True)
        self._report(entry)
        return entry

    def _validate(self, network: nn.Module) -> dict[str, float]:
        """Score a network on all validation samples, each of them once."""
        rows = self.job.validation[self.rank :: self.world_size]
        side = self.settings.data.side_px
        size = max(1, self.settings.optim.batch_size // self.world_size)
        loader = Loader(side, self.settings.seed, 0, None)
        batches: Iterable[dict[str, Any]] = self._drawn or stream(rows, loader, size, self.settings.data.loaders)
        if not self._drawn and len(rows) * side * side * 4 <= _KEPT_BYTES and all("case" in row for row in rows):
            batches = self._drawn = list(batches)
        tensors = (as_tensors(batch, self.spec, self.device) for batch in batches)
        sums = validate(network, tensors, self._forward).to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
        means = (sums[:-1] / sums[-1].clamp_min(1)).tolist()
        return dict(zip(METRICS, means, strict=True))

    def _share_done(self) -> float:
        """Return how much of the run is done, by steps or by time, the same on all workers."""
        by_steps = self.progress.total_steps / max(1, self.steps_per_epoch * self.settings.optim.epochs)
        if not self.settings.max_minutes:
            return by_steps
        by_time = torch.tensor([self._seconds() / (60 * self.settings.max_minutes)], device=self.device)
        if self.world_size > 1:
            torch.distributed.broadcast(by_time, 0)
        return max(by_steps, float(by_time))

    def _is_over(self) -> bool:
        """Whether time is up or the score has stopped rising."""
        progress, patience = self.progress, self.settings.patience_epochs
        stale = patience and progress.epoch - 1 - progress.best_epoch >= patience and progress.best_epoch >= 0
        return bool(stale) or (progress.total_steps > 0 and self._share_done() >= 1.0)

    def _seconds(self) -> float:
        """Return the time spent on the run, that before an interruption included."""
        return self.progress.seconds + time.monotonic() - self._started

    def _tell(self, loss: float, images_per_s: float, *, now: bool = False) -> None:
        """Tell the board how it goes; nothing waits for it."""
        if self.rank or self.job.board is None or (not now and time.monotonic() - self._told_at < _TELL_EVERY_S):
            return
        self._told_at = time.monotonic()
        history = self.progress.history
        self.job.board.tell.remote(
            {
                "share": self._share,
                "epoch": self.progress.epoch,
                "step": self.progress.step,
                "steps": self.steps_per_epoch,
                "loss": loss,
                "images_per_s": images_per_s,
                "last": history[-1] if history else None,
            }
        )

    def _report(self, metrics: dict[str, float]) -> None:
        """Hand a checkpoint to Ray Train, which copies it into the run's folder; all workers take part."""
        import ray.train

        if self.rank:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.write_checkpoint(Path(folder), self._checkpoint())
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=checkpoints.name_checkpoint(self.progress),
            )

    def _checkpoint(self) -> Checkpoint:
        """Collect all that is needed to go on."""
        tensors = {
            "weights": self.core.state_dict(),
            "average": self.average.network.state_dict(),
            "best": self.best,
            "optimizer": checkpoints.pack_optimizer(self.optimizer),
        }
        on_cpu = {part: {name: value.cpu() for name, value in named.items()} for part, named in tensors.items()}
        return Checkpoint(replace(self.progress, seconds=self._seconds()), on_cpu)

    def _resume(self) -> None:
        """Take up the newest whole checkpoint of the run."""
        found, problems = checkpoints.newest_whole(Path(self.job.run_dir))
        if problems and self.rank == 0 and self.job.board is not None:
            self.job.board.warn.remote(problems)
        if found is None:
            return
        if found.progress.settings_hash != self.job.settings_hash:
            raise TrainingError(
                got=f"the checkpoints in {self.job.run_dir} were made with other settings or data",
                fix="go on with the settings and data of that run, or choose another name",
            )
        self.core.load_state_dict(found.tensors["weights"])
        self.average.network.load_state_dict(found.tensors["average"])
        self.best = found.tensors.get("best", {})
        checkpoints.unpack_optimizer(self.optimizer, found.tensors["optimizer"])
        self.progress = found.progress


def _require_divisible(settings: TrainSettings, world_size: int) -> None:
    """Refuse a batch that cannot be split evenly."""
    size, parts = settings.optim.batch_size, world_size * settings.optim.accumulate
    if size % parts:
        raise TrainingError(
            got=f"optim.batch_size {size} for {world_size} workers with {settings.optim.accumulate} parts each",
            allowed=f"a multiple of {parts}",
            fix="change optim.batch_size, workers or optim.accumulate",
        )


def _set_threads(settings: TrainSettings, world_size: int) -> None:
    """Share the processor's cores among the workers of this machine."""
    from cutray.engines.hardware import usable_cores

    torch.set_num_threads(settings.threads_per_worker or max(1, usable_cores() // world_size))


def _computes_in_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Settle the precision."""
    from cutray.engines.hardware import inspect_hardware

    if settings.precision == "auto":
        return device.type == "cuda" or inspect_hardware().computes_in_bf16
    return settings.precision == "bf16"
