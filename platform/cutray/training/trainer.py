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
from cutray.data.loading import Loader, SampleSpec, iter_batches, shard_samples, shuffle_samples
from cutray.errors import TrainingError
from cutray.training import checkpoints
from cutray.training.averaging import ModelEma, interpolate_weights
from cutray.training.checkpoints import Checkpoint, TrainState
from cutray.training.inputs import to_device_batch
from cutray.training.losses import deep_supervision_loss
from cutray.training.network import build_network
from cutray.training.schedule import lr_factor
from cutray.training.teacher import Teacher
from cutray.training.tracking import Tracker
from cutray.training.validation import METRICS, validate

_MAX_BAD_STEPS = 20
_PUBLISH_EVERY_S = 0.5
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What the launcher hands to every worker.

    Attributes:
        settings: The run's settings.
        train: The training samples.
        validation: The validation samples.
        run_dir: Folder of the run, the same on all machines.
        settings_hashes: Fingerprints of settings and data that a checkpoint may have; new ones get the first.
        progress_actor: Collects what a person sees; None for nobody.
        tracking: Address of the MLflow store and the run's id, or None.
    """

    settings: TrainSettings
    train: list[SampleSpec]
    validation: list[SampleSpec]
    run_dir: str
    settings_hashes: tuple[str, ...]
    progress_actor: Any = None
    tracking: tuple[str, str] | None = None


def train_worker(config: dict[str, TrainJob]) -> dict[str, float] | None:
    """Train; Ray Train calls this in every process with the same job."""
    return Trainer(config["job"]).run()


class Trainer:
    """Train in one process. All processes do the same, on different samples."""

    def __init__(self, job: TrainJob) -> None:
        """Build network and optimiser, and take up the newest whole checkpoint if there is one."""
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.job, self.settings = job, job.settings
        _require_divisible(self.settings, self.world_size)
        _set_threads(self.settings, self.world_size)
        self.device = ray.train.torch.get_device()
        self.model, self.spec = build_network(self.settings, job.train, self.device)
        kept = self.settings.optim.keep_start > 0
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()} if kept else {}
        self.teacher = Teacher(self.settings.teacher, self.spec, self.device) if self.settings.teacher else None
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.settings.optim.lr, weight_decay=self.settings.optim.weight_decay
        )
        self.ema = ModelEma(self.model, self.settings.optim.ema_decay)
        self.best: dict[str, Tensor] = {}
        self.state = TrainState(settings_hash=job.settings_hashes[0])
        self._resume()
        wrapped: nn.Module = ray.train.torch.prepare_model(self.model) if self.world_size > 1 else self.model
        self.ddp_model, self.criterion = cast("Any", wrapped), cast("Any", deep_supervision_loss)
        if self.settings.compile:
            self.ddp_model, self.criterion = torch.compile(wrapped), torch.compile(deep_supervision_loss)
        self.tracker = Tracker(job.tracking if self.rank == 0 else None, machine=True)
        self.steps_per_epoch = len(job.train) // self.settings.optim.batch_size
        self.bf16 = _computes_in_bf16(self.settings, self.device)
        self._started, self._published_at, self._bad_steps = time.monotonic(), 0.0, 0
        self._cached: list[dict[str, Any]] = []  # for validation: to draw scenes takes longer than to score them
        self._progress = 0.0  # of the run, when the last step began; to know it better all workers would have to agree

    def run(self) -> dict[str, float] | None:
        """Train to the end and return the last epoch's figures (worker 0 alone)."""
        optim = self.settings.optim
        last: dict[str, float] = dict(self.state.history[-1]) if self.state.history else {}
        if self.settings.init and not self.state.total_steps:
            self._publish_start(self._validate(self.ema.network))
        while self.state.epoch < optim.epochs and not self._is_over():
            loss, rate = self._train_epoch()
            last = self._finish_epoch(loss, rate)
        self.tracker.close()
        return last if self.rank == 0 else None

    def _train_epoch(self) -> tuple[float, float]:
        """Do what is left of an epoch; return the mean loss and photos per second."""
        self.ddp_model.train()
        optim, state = self.settings.optim, self.state
        total, done, started = 0.0, 0, time.monotonic()
        for batch in self._batches():
            self._progress = self._progress_now()
            if self._progress >= 1.0:
                break
            loss = self._step(batch, optim.lr * lr_factor(self._progress, optim.warmup_share))
            state.step += 1
            state.total_steps += 1
            total, done = total + loss, done + 1
            self._publish(loss, done * optim.batch_size / (time.monotonic() - started))
            if state.total_steps % self.settings.checkpoint_every_steps == 0:
                self._report({"epoch": state.epoch, "step": state.step, "loss": loss})
        seconds = time.monotonic() - started
        return total / max(done, 1), done * optim.batch_size / max(seconds, 1e-9)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """Stream this worker's part of the epoch, from the step at which it was left."""
        settings, state = self.settings, self.state
        size = settings.optim.batch_size
        samples = shuffle_samples(self.job.train, settings.seed, state.epoch)[state.step * size :]
        own = shard_samples(samples, size, self.rank, self.world_size)
        loader = Loader(settings.data.side_px, settings.seed, state.epoch, settings.augment)
        for batch in iter_batches(own, loader, size // self.world_size, settings.data.loaders):
            yield to_device_batch(batch, self.spec, self.device)

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
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), optim.clip_norm)
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
        self.ema.update(self.model, self.state.total_steps + 1)
        return total

    def _loss(self, image: Tensor, alpha: Tensor) -> Tensor:
        """Compare the network's maps with the truth, which is in part what the teacher sees if there is one."""
        if self.teacher is not None:
            alpha = torch.lerp(alpha, self.teacher.probs(image, self._forward), self.settings.teacher_share)
        loss: Tensor = self.criterion(self._forward(self.ddp_model, image), alpha, self.settings.loss)
        return loss

    def _forward(self, network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """Run a network in the precision of the run."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs: tuple[Tensor, ...] = network(image)
        return outputs

    def _finish_epoch(self, loss: float, images_per_s: float) -> dict[str, float]:
        """Validate, remember the best weights, and report."""
        state = self.state
        candidate = interpolate_weights(self.ema.network, self.start, self.settings.optim.keep_start)
        scores = self._validate(candidate)
        entry = {"epoch": float(state.epoch), "loss": loss, "images_per_s": images_per_s, **scores}
        state.history.append(entry)
        if scores["iou"] > state.best_score:
            state.best_score, state.best_epoch = scores["iou"], state.epoch
            self.best = candidate.state_dict()
        self.tracker.log(entry, step=state.epoch)
        state.epoch, state.step = state.epoch + 1, 0
        self._publish(loss, images_per_s, now=True)
        self._report(entry)
        return entry

    def _validate(self, network: nn.Module) -> dict[str, float]:
        """Score a network on all validation samples, each of them once."""
        samples = self.job.validation[self.rank :: self.world_size]
        side = self.settings.data.side_px
        size = max(1, self.settings.optim.batch_size // self.world_size)
        loader = Loader(side, self.settings.seed, 0, None)
        batches: Iterable[dict[str, Any]] = self._cached or iter_batches(
            samples, loader, size, self.settings.data.loaders
        )
        if (
            not self._cached
            and len(samples) * side * side * 4 <= _CACHE_BYTES
            and all("case" in sample for sample in samples)
        ):
            batches = self._cached = list(batches)
        tensors = (to_device_batch(batch, self.spec, self.device) for batch in batches)
        sums = validate(network, tensors, self._forward).to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
        means = (sums[:-1] / sums[-1].clamp_min(1)).tolist()
        return dict(zip(METRICS, means, strict=True))

    def _progress_now(self) -> float:
        """Return how much of the run is done, by steps or by time, the same on all workers."""
        by_steps = self.state.total_steps / max(1, self.steps_per_epoch * self.settings.optim.epochs)
        if not self.settings.max_minutes:
            return by_steps
        by_time = torch.tensor([self._seconds() / (60 * self.settings.max_minutes)], device=self.device)
        if self.world_size > 1:
            torch.distributed.broadcast(by_time, 0)
        return max(by_steps, float(by_time))

    def _is_over(self) -> bool:
        """Whether time is up or the score has stopped rising."""
        state, patience = self.state, self.settings.patience_epochs
        stale = patience and state.epoch - 1 - state.best_epoch >= patience and state.best_epoch >= 0
        return bool(stale) or (state.total_steps > 0 and self._progress_now() >= 1.0)

    def _seconds(self) -> float:
        """Return the time spent on the run, that before an interruption included."""
        return self.state.seconds + time.monotonic() - self._started

    def _publish(self, loss: float, images_per_s: float, *, now: bool = False) -> None:
        """Send the latest figures to the progress actor, without waiting for it."""
        if (
            self.rank
            or self.job.progress_actor is None
            or (not now and time.monotonic() - self._published_at < _PUBLISH_EVERY_S)
        ):
            return
        self._published_at = time.monotonic()
        history = self.state.history
        self.job.progress_actor.update.remote(
            {
                "progress": self._progress,
                "epoch": self.state.epoch,
                "step": self.state.step,
                "steps": self.steps_per_epoch,
                "loss": loss,
                "images_per_s": images_per_s,
                "last": history[-1] if history else None,
            }
        )

    def _publish_start(self, scores: dict[str, float]) -> None:
        """Send the scores of the weights that the run starts from, which are what it has to beat."""
        if self.rank == 0 and self.job.progress_actor is not None:
            self.job.progress_actor.update.remote({"start": scores})

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
                checkpoint_dir_name=checkpoints.name_checkpoint(self.state),
            )

    def _checkpoint(self) -> Checkpoint:
        """Collect all that is needed to go on."""
        tensors = {
            "weights": self.model.state_dict(),
            "average": self.ema.network.state_dict(),
            "best": self.best,
            "optimizer": checkpoints.pack_optimizer(self.optimizer),
        }
        on_cpu = {part: {name: value.cpu() for name, value in named.items()} for part, named in tensors.items()}
        return Checkpoint(replace(self.state, seconds=self._seconds()), on_cpu)

    def _resume(self) -> None:
        """Take up the newest whole checkpoint of the run."""
        found, problems = checkpoints.newest_whole(Path(self.job.run_dir))
        if problems and self.rank == 0 and self.job.progress_actor is not None:
            self.job.progress_actor.warn.remote(problems)
        if found is None:
            return
        if found.state.settings_hash not in self.job.settings_hashes:
            raise TrainingError(
                got=f"the checkpoints in {self.job.run_dir} were made with other data",
                fix="go on with the data of that run, or choose another name",
            )
        self.model.load_state_dict(found.tensors["weights"])
        self.ema.network.load_state_dict(found.tensors["average"])
        self.best = found.tensors.get("best", {})
        checkpoints.unpack_optimizer(self.optimizer, found.tensors["optimizer"])
        self.state = replace(found.state, settings_hash=self.job.settings_hashes[0])


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
