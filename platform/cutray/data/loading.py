"""Load samples: specs of a catalog in, batches of augmented samples out, in an order that can be resumed anywhere."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from cutray.config import AugmentSettings, DataSettings, InputLimits
from cutray.data.augment import augment, background_crop, resize_pair
from cutray.data.catalog import Catalog, Pair
from cutray.data.own_items import own_pair
from cutray.data.synthetic import CaseName, Family, draw_scene
from cutray.errors import CutrayError, DatasetError
from cutray.evaluation.masks import MaskEncoding, decode_mask, read_stored
from cutray.imaging.decode import decode_image
from cutray.imaging.files import read_bytes
from cutray.imaging.orientation import apply_orientation


class MaskSpec(TypedDict):
    """Names a mask and says how it is read; plain values, since Ray Data stores them as columns.

    Attributes:
        path: Path of the mask.
        turn: EXIF value to apply to it.
        white: Stored value of full coverage, or None.
        subject_values: Stored values that are the subject; empty for a scale.
        ignore_value: Stored value of pixels that are neither, or None.
        inverted: Whether the scale shows the background.
    """

    path: str
    turn: int
    white: float | None
    subject_values: list[float]
    ignore_value: float | None
    inverted: bool


class SampleSpec(TypedDict, total=False):
    """Names one sample: a photo with its mask and the photo that may become its background, or a drawn scene.

    Attributes:
        number: Seeds the sample's random changes, together with the run's seed and the epoch.
        image: Path of the photo.
        mask: Its mask.
        other_image: Photo whose background may replace this one's.
        other_mask: The mask of that photo.
        case: What a drawn scene is about.
        family: Whose generators draw it.
        item: A data set of the user's own, and the place in it; such samples stay in this process.
        other_item: The same for the photo that may become the background.
    """

    number: int
    image: str
    mask: MaskSpec
    other_image: str
    other_mask: MaskSpec
    case: CaseName
    family: Family
    item: tuple[Any, int]
    other_item: tuple[Any, int]


_LIMITS = InputLimits()
_ERROR_LINE = re.compile(r"^[\w.]+(?:Error|Exception): (.+)$", re.MULTILINE)
# Numbers of drawn scenes begin here, so that they never change when photos are added.
_FIRST_SCENE, _FIRST_VALIDATION_SCENE = 1 << 40, 1 << 41
_BATCHES_PER_BLOCK = 2
_SMALLEST_SCENE_PX = 64
# Processors that Ray sets aside for a loading task.
LOADER_CPUS = 0.5
# Blocks of each loading task that the object store has room for: being made, waiting, and in use.
_BLOCKS_KEPT = 4


def training_samples(catalog: Catalog, settings: DataSettings) -> list[SampleSpec]:
    """Name every sample of an epoch; a repeated photo has another number, and so another variation, each time."""
    photos = _photo_samples(catalog.train)
    repeated: list[SampleSpec] = [
        {**sample, "number": sample["number"] + turn * len(photos)}
        for turn in range(settings.repeat)
        for sample in photos
    ]
    return repeated + _scene_samples(settings.cases, settings.scenes, _FIRST_SCENE, "train")


def validation_samples(catalog: Catalog, settings: DataSettings) -> list[SampleSpec]:
    """Name every sample of the validation."""
    return _photo_samples(catalog.validation) + _scene_samples(
        settings.cases, settings.validation_scenes, _FIRST_VALIDATION_SCENE, settings.validation_family
    )


def store_bytes(settings: DataSettings, batch_size: int) -> int:
    """Return how much of Ray's object store the batches of a run fill at most, however many workers share its batches.

    Args:
        settings: Size of the samples and number of loaders of each worker.
        batch_size: Samples per step over all workers.
    """
    return _BLOCKS_KEPT * settings.loaders * _BATCHES_PER_BLOCK * batch_size * 4 * settings.side_px**2


def shuffle_samples(samples: Sequence[SampleSpec], seed: int, epoch: int) -> list[SampleSpec]:
    """Return the samples in the order of one epoch, which follows from seed and epoch alone."""
    order = np.random.default_rng([seed, epoch]).permutation(len(samples))
    return [samples[index] for index in order]


def shard_samples(samples: Sequence[SampleSpec], batch_size: int, rank: int, world_size: int) -> list[SampleSpec]:
    """Return what one worker sees of whole batches: the same batches for any number of workers, split evenly.

    Args:
        samples: Samples in order.
        batch_size: Samples per step over all workers; a multiple of ``world_size``.
        rank: Number of the worker.
        world_size: How many workers there are.
    """
    part = batch_size // world_size
    starts = range(0, len(samples) - batch_size + 1, batch_size)
    return [sample for start in starts for sample in samples[start + rank * part : start + (rank + 1) * part]]


def load_sample(
    sample: SampleSpec, side_px: int, seed: int = 0, epoch: int = 0, augmentation: AugmentSettings | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read or draw one sample at the network's size.

    Args:
        sample: Which one.
        side_px: Side of the network's input.
        seed: Number that the variation follows from, together with ``epoch`` and the sample's number.
        epoch: Pass over the data.
        augmentation: How to vary it; None does not.

    Returns:
        (side_px, side_px, 3) uint8 sRGB and (side_px, side_px) float32 in [0, 1].

    Raises:
        DatasetError: The photo or mask cannot be read.
    """
    rng = np.random.default_rng([seed, epoch, sample["number"]])
    if sample.get("case") is not None:  # Ray Data fills in what the other samples of a block have
        side = max(side_px, _SMALLEST_SCENE_PX)
        scene = draw_scene(sample["case"], rng, side, side, family=sample["family"])
        image, alpha, other = scene.image, scene.alpha, None
    else:
        image, alpha = _read_sample(sample)
        other = None
        if augmentation is not None and rng.random() < augmentation.new_background:
            other = background_crop(*_read_sample(sample, "other_"))
    if augmentation is None:
        return resize_pair(image, alpha, side_px)
    return augment(image, alpha, side_px, rng, augmentation, other)


class Loader:
    """Turns a block of specs into arrays; runs in Ray's tasks."""

    def __init__(self, side_px: int, seed: int, epoch: int, augmentation: AugmentSettings | None) -> None:
        """Remember how to load; see ``load_sample``."""
        self._options = (side_px, seed, epoch, augmentation)

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Load the samples of a block: image (N, S, S, 3) uint8, alpha (N, S, S) uint8 in 0 … 255."""
        import cv2

        cv2.setNumThreads(1)
        loaded = [load_sample(sample, *self._options) for sample in block["sample"]]
        return {
            "image": np.stack([image for image, _ in loaded]),
            "alpha": np.stack([np.rint(alpha * 255).astype(np.uint8) for _, alpha in loaded]),
        }


def iter_batches(
    samples: Sequence[SampleSpec], loader: Loader, batch_size: int, tasks: int = 1
) -> Iterator[dict[str, Any]]:
    """Load batches through Ray Data, in the order of the samples.

    Args:
        samples: Samples in order.
        loader: How to load them.
        batch_size: Samples per batch; the last batch may be smaller.
        tasks: Loading tasks at a time; more of them than processors only get in each other's way.

    Yields:
        ``image`` (N, S, S, 3) and ``alpha`` (N, S, S), uint8 arrays.

    Raises:
        DatasetError: A photo or mask cannot be read.
    """
    if not samples:
        return
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    blocks = max(1, -(-len(samples) // (batch_size * _BATCHES_PER_BLOCK)))
    dataset = ray.data.from_items([{"sample": sample} for sample in samples], override_num_blocks=blocks)
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
        raise DatasetError(
            got=f"a sample cannot be read: {_first_reason(str(error))}", fix="mend or remove it"
        ) from error


def iter_batches_here(
    samples: Sequence[SampleSpec], loader: Loader, batch_size: int, threads: int = 1
) -> Iterator[dict[str, Any]]:
    """Load the same batches as ``iter_batches`` in threads of this process, without Ray.

    Args:
        samples: Samples in order.
        loader: How to load them.
        batch_size: Samples per batch; the last batch may be smaller.
        threads: Batches that are loaded at a time.

    Yields:
        ``image`` (N, S, S, 3) and ``alpha`` (N, S, S), uint8 arrays.

    Raises:
        DatasetError: A photo or mask cannot be read.
    """
    parts = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[dict[str, np.ndarray]]] = deque()
        try:
            for part in parts:
                ahead.append(pool.submit(loader, {"sample": np.array(part, object)}))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for one in ahead:
                one.cancel()


def _first_reason(trace: str) -> str:
    """Find the original error in the text of Ray's one, which wraps it without keeping it."""
    found = _ERROR_LINE.search(trace)
    return found[1] if found else trace.splitlines()[-1]


def _photo_samples(pairs: Sequence[Pair]) -> list[SampleSpec]:
    """Name photos; each also knows another one, which may become its background."""
    others = [*pairs[len(pairs) // 2 :], *pairs[: len(pairs) // 2]]
    return [
        {
            "number": number,
            "image": pair.image,
            "mask": _mask_spec(pair),
            "other_image": other.image,
            "other_mask": _mask_spec(other),
        }
        for number, (pair, other) in enumerate(zip(pairs, others, strict=True))
    ]


def _mask_spec(pair: Pair) -> MaskSpec:
    """Say how the mask of a pair is read."""
    encoding = pair.encoding
    return MaskSpec(
        path=pair.mask,
        turn=pair.turn,
        white=encoding.white,
        subject_values=list(encoding.subject_values),
        ignore_value=encoding.ignore_value,
        inverted=encoding.inverted,
    )


def _scene_samples(cases: Sequence[CaseName], amount: int, first: int, family: Family) -> list[SampleSpec]:
    """Name drawn scenes; the cases take turns, and no two have the same number."""
    return [{"number": first + index, "case": cases[index % len(cases)], "family": family} for index in range(amount)]


def _read_sample(sample: SampleSpec, prefix: Literal["", "other_"] = "") -> tuple[np.ndarray, np.ndarray]:
    """Read the photo and alpha of a sample, or of the other one that it names."""
    spec: Any = sample
    if f"{prefix}item" not in spec:
        return _read_pair(spec[f"{prefix}image"], spec[f"{prefix}mask"])
    dataset, index = spec[f"{prefix}item"]
    return own_pair(dataset[index], f"item {index} of the data set")


def _read_pair(path: str, mask: MaskSpec) -> tuple[np.ndarray, np.ndarray]:
    """Read a photo, upright, and its mask as it lies on it."""
    image = _read(path)
    encoding = MaskEncoding(
        mask["white"], tuple(mask["subject_values"]), mask["ignore_value"], inverted=mask["inverted"]
    )
    alpha = apply_orientation(decode_mask(read_stored(Path(mask["path"])), encoding), mask["turn"])
    if alpha.shape != image.shape[:2]:
        raise DatasetError(
            got=f"{path} has {image.shape[1]}x{image.shape[0]} px upright, its mask {alpha.shape[1]}x{alpha.shape[0]}",
            allowed="equal sizes",
            fix="store both upright",
        )
    return image, alpha


def _read(path: str) -> np.ndarray:
    """Read a photo."""
    try:
        return decode_image(read_bytes(path, _LIMITS), _LIMITS).pixels
    except (CutrayError, OSError) as error:
        raise DatasetError(got=f"{path}: {error}", fix="mend or remove it") from error
