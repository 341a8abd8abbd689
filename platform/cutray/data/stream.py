"""The stream: rows of a catalog in, batches of varied samples out, in an order that can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cutray.config import AugmentSettings, DataSettings, InputLimits
from cutray.data.augment import fit, free_part, vary
from cutray.data.catalog import Catalog, Pair
from cutray.data.scenes import draw_scene
from cutray.errors import CutrayError, DatasetError
from cutray.evaluation.datasets import load_truth
from cutray.imaging.decode import decode_image
from cutray.imaging.files import read_bytes

# A row names one sample: {"number", "image", "mask", "other": (image, mask)} or, for a drawn scene,
# {"number", "case", "family"}.
Row = dict[str, Any]
_LIMITS = InputLimits()
# Numbers of drawn scenes begin here, so that they never change when photos are added.
_FIRST_SCENE, _FIRST_VALIDATION_SCENE = 1 << 40, 1 << 41
_BATCHES_PER_BLOCK = 2
_SMALLEST_SCENE_PX = 64
# Processors that Ray sets aside for a loading task.
LOADER_CPUS = 0.5
# Blocks of each loading task that the object store has room for: being made, waiting, and in use.
_BLOCKS_KEPT = 4


def training_rows(catalog: Catalog, settings: DataSettings) -> list[Row]:
    """Return one row per sample of an epoch; a photo that is repeated has a number, and so a variation, each time."""
    photos = _photo_rows(catalog.train)
    again = [{**row, "number": row["number"] + turn * len(photos)} for turn in range(settings.repeat) for row in photos]
    return again + _scene_rows(settings.cases, settings.scenes, _FIRST_SCENE, "train")


def validation_rows(catalog: Catalog, settings: DataSettings) -> list[Row]:
    """Return one row per sample of the validation."""
    return _photo_rows(catalog.validation) + _scene_rows(
        settings.cases, settings.validation_scenes, _FIRST_VALIDATION_SCENE, settings.validation_family
    )


def store_bytes(settings: DataSettings, batch_size: int) -> int:
    """Return how much of Ray's object store the streams of a run fill at most, however many workers share its batches.

    Args:
        settings: Size of the samples and number of loaders of each worker.
        batch_size: Samples per step over all workers.
    """
    return _BLOCKS_KEPT * settings.loaders * _BATCHES_PER_BLOCK * batch_size * 4 * settings.side_px**2


def shuffled(rows: Sequence[Row], seed: int, epoch: int) -> list[Row]:
    """Return the rows in the order of one epoch, which follows from seed and epoch alone."""
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    return [rows[index] for index in order]


def share_of(rows: Sequence[Row], batch_size: int, rank: int, world_size: int) -> list[Row]:
    """Return what one worker sees of whole batches: the same batches for any number of workers, split evenly.

    Args:
        rows: Samples in order.
        batch_size: Samples per step over all workers; a multiple of ``world_size``.
        rank: Number of the worker.
        world_size: How many workers there are.
    """
    part = batch_size // world_size
    starts = range(0, len(rows) - batch_size + 1, batch_size)
    return [row for start in starts for row in rows[start + rank * part : start + (rank + 1) * part]]


def load_sample(
    row: Row, side_px: int, seed: int = 0, epoch: int = 0, augment: AugmentSettings | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read or draw one sample at the network's size.

    Args:
        row: Which one.
        side_px: Side of the network's input.
        seed: Number that the variation follows from, together with ``epoch`` and the row's number.
        epoch: Pass over the data.
        augment: How to vary it; None does not.

    Returns:
        (side_px, side_px, 3) uint8 sRGB and (side_px, side_px) float32 in [0, 1].

    Raises:
        DatasetError: The photo or mask cannot be read.
    """
    rng = np.random.default_rng([seed, epoch, row["number"]])
    if "case" in row:
        side = max(side_px, _SMALLEST_SCENE_PX)
        scene = draw_scene(row["case"], rng, side, side, family=row["family"])
        image, alpha, other = scene.image, scene.alpha, None
    else:
        image, alpha = _read(row["image"]), load_truth(row["mask"])
        other = None
        if augment is not None and rng.random() < augment.new_background:
            other = free_part(_read(row["other"][0]), load_truth(row["other"][1]))
    if augment is None:
        return fit(image, alpha, side_px)
    return vary(image, alpha, side_px, rng, augment, other)


class Loader:
    """Turns a block of rows into arrays; runs in Ray's tasks."""

    def __init__(self, side_px: int, seed: int, epoch: int, augment: AugmentSettings | None) -> None:
        """Remember how to load; see ``load_sample``."""
        self._options = (side_px, seed, epoch, augment)

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Load the samples of a block: image (N, S, S, 3) uint8, alpha (N, S, S) uint8 in 0 … 255."""
        import cv2

        cv2.setNumThreads(1)
        loaded = [load_sample(row, *self._options) for row in block["row"]]
        return {
            "image": np.stack([image for image, _ in loaded]),
            "alpha": np.stack([np.rint(alpha * 255).astype(np.uint8) for _, alpha in loaded]),
        }


def stream(rows: Sequence[Row], loader: Loader, batch_size: int, tasks: int = 1) -> Iterator[dict[str, Any]]:
    """Stream batches through Ray Data, in the order of the rows.

    Args:
        rows: Samples in order.
        loader: How to load them.
        batch_size: Samples per batch; the last batch may be smaller.
        tasks: Loading tasks at a time; more of them than processors only get in each other's way.

    Yields:
        ``image`` (N, S, S, 3) and ``alpha`` (N, S, S), uint8 arrays.

    Raises:
        DatasetError: A photo or mask cannot be read.
    """
    if not rows:
        return
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    blocks = max(1, -(-len(rows) // (batch_size * _BATCHES_PER_BLOCK)))
    dataset = ray.data.from_items([{"row": row} for row in rows], override_num_blocks=blocks)
    loaded = dataset.map_batches(
        loader.__call__,
        batch_size=None,
        batch_format="numpy",
        num_cpus=LOADER_CPUS,
        compute=ray.data.TaskPoolStrategy(size=tasks),
    )
    try:
        yield from loaded.iter_batches(batch_size=batch_size, batch_format="numpy", prefetch_batches=1)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CutrayError):
            raise error.cause from error
        raise DatasetError(got=f"a sample cannot be read: {error.cause}") from error


def _photo_rows(pairs: Sequence[Pair]) -> list[Row]:
    """Name photos; each also knows another one, which may become its background."""
    paths = [(pair.image, pair.mask) for pair in pairs]
    others = [*paths[len(paths) // 2 :], *paths[: len(paths) // 2]]
    return [
        {"number": number, "image": pair.image, "mask": pair.mask, "other": other}
        for number, (pair, other) in enumerate(zip(pairs, others, strict=True))
    ]


def _scene_rows(cases: Sequence[str], amount: int, first: int, family: str) -> list[Row]:
    """Name drawn scenes; the cases take turns, and no two have the same number."""
    return [{"number": first + index, "case": cases[index % len(cases)], "family": family} for index in range(amount)]


def _read(path: str) -> np.ndarray:
    """Read a photo."""
    try:
        return decode_image(read_bytes(path, _LIMITS), _LIMITS).pixels
    except CutrayError as error:
        raise DatasetError(got=f"{path}: {error}", fix="mend or remove it") from error
