"""The loop of a training run, the same in every process and with or without Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cutray.config import TrainSettings
from cutray.data.loading import Loader, SampleSpec, shard_samples, shuffle_samples
from cutray.errors import TrainingError
from cutray.training import checkpoints
from cutray.training.averaging import ModelEma, interpolate_weights
from cutray.training.cache import SampleCache
from cutray.training.checkpoints import Checkpoint, TrainState
from cutray.training.inputs import normalize, resize_batch, to_device_batch
from cutray.training.losses import deep_supervision_loss
from cutray.training.machine import computes_in_bf16, set_threads
from cutray.training.network import build_network, set_frozen
from cutray.training.profile import StepProfile
from cutray.training.runtime import RayRuntime, Runtime
from cutray.training.schedule import lr_factor
from cutray.training.step import TrainStep
from cutray.training.teacher import Teacher
from cutray.training.tensorboard import TensorBoard
from cutray.training.tracking import Tracker
from cutray.training.transfer import to_device
from cutray.training.validation import METRICS, means_of, validate

_PUBLISH_EVERY_S = 0.5
# To look at what the steps found out makes the processor wait for the device, and workers for each other.
_CHECK_EVERY_STEPS = 20
_CACHE_BYTES = 64 << 20
_SHOWN = 4  # samples of the validation on the board


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
    return Trainer(config["job"], RayRuntime(config["job"].progress_actor)).run()


class Trainer:
    """Train in one process. All processes do the same, on different samples."""

    def __init__(self, job: TrainJob, runtime: Runtime) -> None:
        """Build network and optimiser, and take up the newest whole checkpoint if there is one."""
        self.runtime, self.rank, self.world_size = runtime, runtime.rank, runtime.world_size
        self.job, self.settings, self.device = job, job.settings, runtime.device
        _require_divisible(self.settings, self.world_size)
        set_threads(self.settings, self.world_size)
        self.model, self.spec = build_network(self.settings, job.train, self.device)
        set_frozen(self.model, self.settings.freeze)
        self.model.set_grad_checkpointing(self.settings.grad_checkpointing)
        kept = self.settings.optim.keep_start > 0
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()} if kept else {}
        self.teacher = Teacher(self.settings.teacher, self.spec, self.device) if self.settings.teacher else None
        self.ema = ModelEma(self.model, self.settings.optim.ema_decay)
        self.step = TrainStep(
            self.model,
            self.ema,
            self._loss,
            self.settings.optim,
            self.device,
            no_sync=lambda: getattr(self.ddp_model, "no_sync", contextlib.nullcontext)(),
            capture=self.settings.cuda_graph and self.world_size == 1,
        )
        self.best: dict[str, Tensor] = {}
        self.best_scores: dict[str, Tensor] = {}
        self.state = TrainState(settings_hash=job.settings_hashes[0])
        self._resume()
        wrapped = runtime.wrap(self.model)
        self.ddp_model, self.criterion = cast("Any", wrapped), cast("Any", deep_supervision_loss)
        if self.settings.compile:
            self.ddp_model, self.criterion = torch.compile(wrapped), torch.compile(deep_supervision_loss)
        self.tracker = Tracker(job.tracking if self.rank == 0 else None, machine=True)
        board = Path(self.settings.tensorboard) / self.settings.name if self.settings.tensorboard else None
        self.board = TensorBoard(board, self.state.total_steps + 1) if board is not None and self.rank == 0 else None
        self.steps_per_epoch = len(job.train) // self.settings.optim.batch_size
        self.bf16 = computes_in_bf16(self.settings, self.device)
        self._started, self._published_at = time.monotonic(), 0.0
        folder = self.settings.profile
        self.profile = StepProfile(Path(folder), self.device, self.model) if folder and self.rank == 0 else None
        self.cache = SampleCache(job.train, self.settings, runtime) if self.settings.data.cache != "none" else None
        self._cached: list[dict[str, Any]] = []  # for validation: to draw scenes takes longer than to score them
        self._progress = 0.0  # of the run, when the last step began; to know it better all workers would have to agree

    def run(self) -> dict[str, float] | None:
        """Train to the end and return the last epoch's figures (worker 0 alone)."""
        try:
            last = self._run()
        finally:  # what was noted last of a run that fails is what explains it
            self.tracker.close()
            if self.board is not None:
                self.board.close()
        return last if self.rank == 0 else None

    def _run(self) -> dict[str, float]:
        """Train to the end and return the last epoch's figures."""
        optim = self.settings.optim
        last: dict[str, float] = dict(self.state.history[-1]) if self.state.history else {}
        if self.settings.init and not self.state.total_steps:
            # The scores of the weights that the run starts from are what it has to beat.
            self.runtime.publish({"start": means_of(self._validate(self.ema.network))})
        while self.state.epoch < optim.epochs and not self._is_over():
            loss, rate = self._train_epoch()
            last = self._finish_epoch(loss, rate)
        return last

    def _train_epoch(self) -> tuple[float, float]:
        """Do what is left of an epoch; return the mean loss and photos per second."""
        self.ddp_model.train()
        set_frozen(self.model, self.settings.freeze)
        optim, state = self.settings.optim, self.state
        done, started = 0, time.monotonic()
        batches: Iterable[dict[str, Tensor]] = self._batches()
        for batch in self.profile.watch(batches) if self.profile else batches:
            self._progress = self._progress_now()
            if self._progress >= 1.0:
                break
            rate = optim.lr * lr_factor(self._progress, optim.warmup_share)
            image, alpha = self._scaled(batch)
            self.step.run(image, alpha, rate, state.total_steps + 1)
            state.step += 1
            state.total_steps += 1
            done += 1
            if state.total_steps % _CHECK_EVERY_STEPS == 0:
                self.step.check()
            self._publish(self.step.last_loss, done * optim.batch_size / (time.monotonic() - started))
            if state.total_steps % self.settings.checkpoint_every_steps == 0:
                self.step.check()
                self._report({"epoch": state.epoch, "step": state.step, "loss": self.step.last_loss()})
        self.step.check()
        loss = self.step.take_mean_loss()
        return loss, done * optim.batch_size / max(time.monotonic() - started, 1e-9)

    def inputs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the steps of the rest of an epoch are given: photos (N, 3, S, S) and alphas (N, 1, S, S)."""
        return (self._scaled(batch) for batch in self._batches())

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """Stream this worker's part of the epoch, from the step at which it was left."""
        settings, state = self.settings, self.state
        size = settings.optim.batch_size
        samples = shuffle_samples(self.job.train, settings.seed, state.epoch)[state.step * size :]
        own = shard_samples(samples, size, self.rank, self.world_size)
        if self.cache is not None:
            for pixels, alpha in self.cache.batches(own, size // self.world_size, state.epoch, settings.augment):
                yield {"image": normalize(pixels, self.spec), "alpha": alpha}
            return
        loader = Loader(settings.data.side_px, settings.seed, state.epoch, settings.augment)
        loaded = self.runtime.batches(own, loader, size // self.world_size, settings.data.loaders)
        for batch in to_device(loaded, self.device):
            yield to_device_batch(batch, self.spec, self.device)

    def _scaled(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Bring a batch to the size of its step, which follows from the seed and the step, on all workers alike."""
        data, step = self.settings.data, self.state.total_steps
        choice = np.random.default_rng([self.settings.seed, step]).integers(len(data.scales))
        return resize_batch(batch["image"], batch["alpha"], data.side_px, data.scales[choice])

    def _loss(self, image: Tensor, alpha: Tensor) -> Tensor:
        """Compare the network's maps with the truth, which is in part what the teacher sees if there is one."""
        if self.teacher is not None:
            alpha = torch.lerp(alpha, self.teacher.probs(image, self._forward), self.settings.teacher_share)
        loss: Tensor = self.criterion(self._forward(self.ddp_model, image), alpha, self.settings.loss)
        return loss

    def _forward(self, network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        """Run a network in the precision of the run."""
        # A captured step must not keep casts of the weights: it would replay those of its first steps.
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=not self.settings.cuda_graph
        ):
            outputs: tuple[Tensor, ...] = network(image)
        return outputs

    def _finish_epoch(self, loss: float, images_per_s: float) -> dict[str, float]:
        """Validate, remember the best weights, and report."""
        state = self.state
        candidate = interpolate_weights(self.ema.network, self.start, self.settings.optim.keep_start)
        rows = self._validate(candidate)
        scores = means_of(rows)
        entry = {"epoch": float(state.epoch), "loss": loss, "images_per_s": images_per_s, **scores}
        state.history.append(entry)
        if scores["iou"] > state.best_score:
            state.best_score, state.best_epoch = scores["iou"], state.epoch
            self.best, self.best_scores = candidate.state_dict(), {"scores": rows}
        self.tracker.log(entry, step=state.epoch)
        if self.board is not None:
            self.board.log(scores, state.total_steps, "validation")
            self.board.log({"loss": loss, "images_per_s": images_per_s}, state.total_steps, "epoch")
            self._show_samples(candidate)
        state.epoch, state.step = state.epoch + 1, 0
        self._publish(lambda: loss, images_per_s, now=True)
        self._report(entry)
        return entry

    @torch.no_grad()
    def _show_samples(self, network: nn.Module) -> None:
        """Show some validation samples, and what the network makes of them, on the board."""
        samples = np.array(self.job.validation[:_SHOWN], object)
        batch = Loader(self.settings.data.side_px, self.settings.seed, 0, None)({"sample": samples})
        tensors = to_device_batch(batch, self.spec, self.device)
        probs = self._forward(network, tensors["image"])[0].float().sigmoid()
        photos = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
        if self.board is not None:
            self.board.show(photos, tensors["alpha"].cpu(), probs.cpu(), self.state.total_steps)

    def _validate(self, network: nn.Module) -> Tensor:
        """Score a network on all validation samples, each of them once; (N, 3) float64 in the order of ``METRICS``."""
        samples = self.job.validation[self.rank :: self.world_size]
        side = self.settings.data.side_px
        size = max(1, self.settings.optim.batch_size // self.world_size)
        loader = Loader(side, self.settings.seed, 0, None)
        batches: Iterable[dict[str, Any]] = self._cached or self.runtime.batches(
            samples, loader, size, self.settings.data.loaders
        )
        drawn = all("case" in sample for sample in samples) and len(samples) * side * side * 4 <= _CACHE_BYTES
        if not self._cached and (drawn or self.cache is not None):
            batches = self._cached = list(batches)
        tensors = (to_device_batch(batch, self.spec, self.device) for batch in to_device(batches, self.device))
        scores = torch.zeros((len(self.job.validation), len(METRICS)), dtype=torch.float64)
        scores[self.rank :: self.world_size] = validate(network, tensors, self._forward)
        if self.world_size > 1:
            # Each worker knows some rows, and the others are 0: the sum has them all.
            shared = scores.to(self.device)
            torch.distributed.all_reduce(shared)
            scores = shared.cpu()
        return scores

    def _progress_now(self) -> float:
        """Return how much of the run is done, by steps or by time, the same on all workers."""
        by_steps = self.state.total_steps / max(1, self.steps_per_epoch * self.settings.optim.epochs)
        if not self.settings.max_minutes:
            return by_steps
        by_time = self._seconds() / (60 * self.settings.max_minutes)
        if self.world_size > 1:
            # Workers that left at different steps would wait for each other for ever. To agree makes a GPU wait, so
            # that there the time is looked at once in a while.
            if self.device.type == "cuda" and self.state.total_steps % _CHECK_EVERY_STEPS and self._progress:
                return max(by_steps, self._progress)
            shared = torch.tensor([by_time], device=self.device)
            torch.distributed.broadcast(shared, 0)
            by_time = float(shared)
        return max(by_steps, by_time)

    def _is_over(self) -> bool:
        """Whether time is up or the score has stopped rising."""
        state, patience = self.state, self.settings.patience_epochs
        stale = patience and state.epoch - 1 - state.best_epoch >= patience and state.best_epoch >= 0
        return bool(stale) or (state.total_steps > 0 and self._progress_now() >= 1.0)

    def _seconds(self) -> float:
        """Return the time spent on the run, that before an interruption included."""
        return self.state.seconds + time.monotonic() - self._started

    def _publish(self, loss: Callable[[], float], images_per_s: float, *, now: bool = False) -> None:
        """Tell the latest figures now and then; only then is the loss asked for."""
        if self.rank or (not now and time.monotonic() - self._published_at < _PUBLISH_EVERY_S):
            return
        self._published_at = time.monotonic()
        history, latest_loss = self.state.history, loss()
        if self.board is not None:
            rate = float(self.step.optimizer.param_groups[0]["lr"])
            self.board.log({"loss": latest_loss, "lr": rate}, self.state.total_steps, "train")
        self.runtime.publish(
            {
                "progress": self._progress,
                "epoch": self.state.epoch,
                "step": self.state.step,
                "steps": self.steps_per_epoch,
                "loss": latest_loss,
                "images_per_s": images_per_s,
                "last": history[-1] if history else None,
            }
        )

    def _report(self, metrics: dict[str, float]) -> None:
        """Keep a checkpoint; all workers take part."""
        self.runtime.report(metrics, self._checkpoint)

    def _checkpoint(self) -> Checkpoint:
        """Collect all that is needed to go on."""
        tensors = {
            "weights": self.model.state_dict(),
            "average": self.ema.network.state_dict(),
            "best": self.best,
            "validation": self.best_scores,
            "optimizer": checkpoints.pack_optimizer(self.step.optimizer),
        }
        on_cpu = {part: {name: value.cpu() for name, value in named.items()} for part, named in tensors.items()}
        return Checkpoint(replace(self.state, seconds=self._seconds()), on_cpu)

    def _resume(self) -> None:
        """Take up the newest whole checkpoint of the run."""
        found, problems = checkpoints.newest_whole(Path(self.job.run_dir))
        self.runtime.warn(problems)
        if found is None:
            return
        if found.state.settings_hash not in self.job.settings_hashes:
            raise TrainingError(
                got=f"the checkpoints in {self.job.run_dir} were made with other data",
                fix="go on with the data of that run, or choose another name",
            )
        self.model.load_state_dict(found.tensors["weights"])
        self.ema.network.load_state_dict(found.tensors["average"])
        self.best, self.best_scores = found.tensors.get("best", {}), found.tensors.get("validation", {})
        checkpoints.unpack_optimizer(self.step.optimizer, found.tensors["optimizer"])
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
