"""Keeps a collection decoded, in RAM or in the GPU's memory, and gives batches of it that are augmented there."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutray.config import AugmentSettings, TrainSettings
from cutray.data.loading import Loader, SampleSpec
from cutray.errors import TrainingError
from cutray.training.augment_plan import Plan, Shape, plan_batch
from cutray.training.batch_augment import augment_batch
from cutray.training.runtime import Runtime
from cutray.training.transfer import to_device

_LOADED_AT_A_TIME = 16


class SampleCache:
    """Samples at the network's size: 4 bytes for each pixel, .4 MB for one of 320 pixels a side.

    Every variation follows from seed, epoch and the sample's number, as without it; drawn scenes are drawn once.
    """

    def __init__(self, samples: Sequence[SampleSpec], settings: TrainSettings, runtime: Runtime) -> None:
        """Load the collection.

        Args:
            samples: All samples that will be asked for; those that show the same photo share a place.
            settings: Size, place and loaders.
            runtime: Loads them.

        Raises:
            DatasetError: A photo or mask cannot be read.
            TrainingError: The GPU's memory is too small.
        """
        self._side, self._seed = settings.data.side_px, settings.seed
        self._device = runtime.device
        on_device = settings.data.cache == "device"
        distinct = {_key(sample): sample for sample in samples}
        # A photo that only lends its background is a sample as well.
        self._rows = {key: row for row, key in enumerate(distinct)}
        place = self._device if on_device else torch.device("cpu")
        self._images, self._alphas = _reserve(len(distinct), self._side, place)
        self.shapes: list[Shape] = []
        loader = Loader(self._side, self._seed, 0, None)
        loaded = runtime.batches(list(distinct.values()), loader, _LOADED_AT_A_TIME, settings.data.loaders)
        for batch in loaded:
            start = len(self.shapes)
            self._images[start : start + len(batch["image"])] = torch.as_tensor(np.ascontiguousarray(batch["image"]))
            self._alphas[start : start + len(batch["alpha"])] = torch.as_tensor(np.ascontiguousarray(batch["alpha"]))
            self.shapes += [Shape.of(alpha) for alpha in batch["alpha"]]

    def batches(
        self, samples: Sequence[SampleSpec], size: int, epoch: int, augmentation: AugmentSettings
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Give augmented batches on the device.

        Args:
            samples: In order.
            size: Samples of a batch.
            epoch: Pass over the data.
            augmentation: How to vary them.

        Yields:
            (N, 3, S, S) float32 in 0 … 255 and (N, 1, S, S) float32 in [0, 1].
        """
        plans: deque[Plan] = deque()

        def gather() -> Iterator[dict[str, Any]]:
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                rngs = [np.random.default_rng([self._seed, epoch, sample["number"]]) for sample in part]
                rows = [self._rows[_key(sample)] for sample in part]
                lenders = [self._rows.get(_key(sample, "other_"), -1) for sample in part]
                shapes, others = ([self.shapes[row] if row >= 0 else None for row in one] for one in (rows, lenders))
                plan = plan_batch([one for one in shapes if one], others, rngs, self._side, augmentation)
                plans.append(plan)
                chosen = {"image": self._pick(self._images, rows), "alpha": self._pick(self._alphas, rows)}
                if plan.stripes:
                    chosen["other"] = self._pick(self._images, [lenders[place] for place in plan.stripes])
                yield chosen

        for batch in to_device(gather(), self._device):
            yield augment_batch(batch["image"], batch["alpha"], batch.get("other"), plans.popleft())

    def _pick(self, values: Tensor, rows: Sequence[int]) -> Tensor:
        """Gather rows where they are."""
        index = torch.tensor(rows)
        if values.device.type == "cuda":
            index = index.pin_memory().to(values.device, non_blocking=True)
        return values.index_select(0, index)


def _reserve(count: int, side: int, place: torch.device) -> tuple[Tensor, Tensor]:
    """Take the memory for a collection, (count, side, side, 3) and (count, side, side) uint8."""
    needed = count * side * side * 4
    if place.type == "cuda" and needed > torch.cuda.mem_get_info(place)[0] // 2:
        raise TrainingError(
            got=f"{count} samples of {side} pixels take {needed / 1e9:.1f} GB, more than half of the GPU's free memory",
            fix="set data.cache=ram, or none",
        )
    shape = (count, side, side)
    return (
        torch.empty((*shape, 3), dtype=torch.uint8, device=place),
        torch.empty(shape, dtype=torch.uint8, device=place),
    )


def _key(sample: SampleSpec, prefix: str = "") -> Hashable:
    """Tell which photo a sample shows, or which one may become its background; drawn scenes by their number."""
    spec: Any = sample
    if f"{prefix}item" in spec:
        dataset, index = spec[f"{prefix}item"]
        return id(dataset), index
    if f"{prefix}image" in spec:
        return str(spec[f"{prefix}image"])
    return None if prefix else int(spec["number"])
