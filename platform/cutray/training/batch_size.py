"""Settles the batch size of a run by memory: on a GPU by trying, on a processor by measuring against a budget."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cutray.config import AUTO, TrainSettings
from cutray.data.loading import SampleSpec
from cutray.engines.hardware import available_bytes
from cutray.errors import TrainingError, is_lack_of_memory
from cutray.training.scratch import scratch_trainer

# Normalisation by a batch needs two samples at least; larger batches than the most gain no speed.
_FEWEST, _MOST = 2, 256
# An epoch has at least so many steps, however much memory there is.
_STEPS_OF_EPOCH = 4
# What a run may take of a processor's memory that is free: convolutions need room beside their results, others too.
_SHARE = 0.5
# What the allocator says, and oneDNN where its own buffers find no room.
_CPU_OUT_OF_MEMORY = ("can't allocate memory", "could not create a primitive")

# Settings, samples and the largest size of interest in; the largest size that fits out.
Probe = Callable[[TrainSettings, Sequence[SampleSpec], int], int]


def settle_batch(settings: TrainSettings, samples: Sequence[SampleSpec], workers: int, probe: Probe) -> TrainSettings:
    """Replace ``auto`` in batch size and accumulation by numbers, which hold for all workers and for going on.

    Args:
        settings: Those of a run.
        samples: Its samples to learn from.
        workers: Processes that share a batch.
        probe: Tells which size fits, on a machine like those of the workers.

    Returns:
        Settings without ``auto``. A batch size that was given stays: what does not fit is accumulated.

    Raises:
        TrainingError: Not even two samples fit.
    """
    optim = settings.optim
    if AUTO not in (optim.batch_size, optim.accumulate):
        return settings
    if optim.batch_size == AUTO:
        parts = optim.accumulate or 1
        most = max(_FEWEST, min(_MOST, len(samples) // (_STEPS_OF_EPOCH * workers * parts)))
        fits = probe(settings, samples, most)
        chosen = {"batch_size": fits * workers * parts, "accumulate": parts}
    else:
        share = optim.batch_size // workers
        fits = probe(settings, samples, max(_FEWEST, share))
        # Statistics of a batch need two samples.
        divisors = [n for n in range(1, share + 1) if share % n == 0 and min(_FEWEST, share) <= share // n <= fits]
        if not divisors:
            raise TrainingError(
                got=f"a batch of {share} samples for each worker, and memory for {fits} at a time",
                allowed=f"a batch that divides into equal parts of {_FEWEST} to {fits} samples",
                fix=f"use a multiple of {fits}",
            )
        chosen = {"accumulate": divisors[0]}
    return settings.model_copy(update={"optim": optim.model_copy(update=chosen)})


def fitting_batch(settings: TrainSettings, samples: Sequence[SampleSpec], most: int, *, sharers: int = 1) -> int:
    """Find the largest power of two of samples with which a training step fits into this machine's memory.

    Args:
        settings: Those of the run.
        samples: Its samples to learn from.
        most: Larger sizes are not looked at.
        sharers: Processes that share a processor's memory.

    Raises:
        TrainingError: Not even two samples fit.
    """
    single = settings.optim.model_copy(update={"batch_size": 1, "accumulate": 1})
    plain = {"optim": single, "data": settings.data.model_copy(update={"cache": "none"}), "compile": False}
    side = round(settings.data.side_px * max(settings.data.scales))
    with scratch_trainer(settings.model_copy(update=plain), samples) as trainer:

        def attempt(size: int) -> None:
            image = torch.rand((size, 3, side, side), device=trainer.device)
            trainer.step.run(image, torch.rand((size, 1, side, side), device=trainer.device), single.lr, 1)

        if trainer.device.type == "cuda":
            return _with_cache_held(settings, samples, trainer.device, lambda: largest_that_fits(attempt, most))
        budget = int(settings.batch_memory_gb * 1e9) or int(_SHARE * available_bytes() / sharers)
        return size_within(attempt, budget, most)


def largest_that_fits(attempt: Callable[[int], None], most: int) -> int:
    """Try 2, 4, 8 … samples until memory runs out, and go back to the last size that went well.

    Args:
        attempt: Does a step with so many samples.
        most: Larger sizes are not tried.

    Raises:
        TrainingError: Memory ran out with two samples.
    """
    fits, size = 0, _FEWEST
    while size <= most:
        try:
            attempt(size)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        fits, size = size, 2 * size
    # What the failed attempt held is free only now that its error is gone.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return fits or _too_little("of the device")


def size_within(attempt: Callable[[int], None], budget_bytes: int, most: int) -> int:
    """Measure the peak of steps with two and four samples; return the power of two that a budget has room for.

    Memory grows with the number of samples in a straight line: weights, and so much for each sample.

    Args:
        attempt: Does a step with so many samples.
        budget_bytes: What a step may take beside what is there already.
        most: Larger sizes are not looked at.

    Raises:
        TrainingError: Two samples take more than the budget.
    """
    attempt(_FEWEST)  # the optimiser takes its own memory in the first step
    few, more = (_peak_bytes(attempt, size) for size in (_FEWEST, 2 * _FEWEST))
    each = max(1, (more - few) // _FEWEST)
    room = min(most, _FEWEST + (budget_bytes - few) // each)
    if room < _FEWEST:
        return _too_little(f"within {budget_bytes / 1e9:.2f} GB: two samples take {few / 1e9:.2f} GB")
    return int(2 ** (room.bit_length() - 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory has run out, on a GPU or on a processor."""
    return is_lack_of_memory(error) or any(told in str(error) for told in _CPU_OUT_OF_MEMORY)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made while it is on, and notes the most that lived at a time."""

    def __init__(self) -> None:
        """Begin at nothing."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it gives."""
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor):
                self._count(one.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        """Count a piece of memory once, until it is given back."""
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)

        def forget() -> None:
            self._known.discard(key)
            self.live -= size

        weakref.finalize(storage, forget)


def _peak_bytes(attempt: Callable[[int], None], size: int) -> int:
    """Return the most bytes that a step with so many samples takes at a time."""
    counted = _LiveBytes()
    with counted:
        attempt(size)
    return counted.peak


def _with_cache_held(
    settings: TrainSettings, samples: Sequence[SampleSpec], device: torch.device, find: Callable[[], int]
) -> int:
    """Look for a size while the place of the collection that the GPU will keep is taken."""
    kept = len(samples) if settings.data.cache == "device" else 0
    held = torch.empty(kept * settings.data.side_px**2 * 4, dtype=torch.uint8, device=device)
    size = find()
    del held
    return size


def _too_little(what: str) -> int:
    """Say that no batch fits."""
    raise TrainingError(
        got=f"the memory {what} is too little for a batch of {_FEWEST}",
        fix="lower data.side_px, use --grad-checkpointing, or choose a smaller network",
    )
