"""The catalog: which pairs of photo and mask a run learns from and is validated on, checked before the first step."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cutray.config import DataSettings
from cutray.errors import DatasetError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import Sample, find_samples, pair_folders
from cutray.evaluation.masks import MaskEncoding

_HASH_SIDE = 16
# Bits, of 256, in which the hashes of two copies may differ; of two photos about half differ.
_COPY_BITS = 32
# And how far their small copies correlate at least. Products on one plain background have few bits that differ.
_COPY_CORRELATION = 0.98
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo and its mask.

    Attributes:
        image: Path of the photo.
        mask: Path of the mask.
        content: Hash of what the photo shows.
        encoding: What the stored values of the mask mean.
        turn: EXIF value to apply to the mask, so that it lies on the upright photo; 1 for none.
    """

    image: str
    mask: str
    content: str
    encoding: MaskEncoding = field(default_factory=MaskEncoding)
    turn: int = 1


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a run learns from.

    Attributes:
        train: Pairs to learn from.
        validation: Pairs to validate on; no photo of theirs is among the others, not even as a copy.
        copies: Groups of photos that show the same.
        fingerprint: Hash of all contents and of the split.
        notes: What was recognised about the masks.
        warnings: What looks wrong, but can be meant so.
        looks_inverted: Whether the masks of a folder seem to show the background instead of the subject.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    copies: tuple[tuple[str, ...], ...]
    fingerprint: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    looks_inverted: bool = False


def build_catalog(settings: DataSettings, seed: int) -> Catalog:
    """Find, check and split the pairs of a run.

    The split follows from what the photos show and the seed, not from names or order: copies of a photo, also
    resized or compressed again, stay on one side.

    Args:
        settings: Folders, and what is kept for validation.
        seed: Number that the split follows from.

    Returns:
        The catalog; empty where only drawn scenes are asked for.

    Raises:
        DatasetError: A folder has no known layout, pairs are incomplete, sizes differ, a file cannot be read, the
            masks can mean several things, or a side of the split is empty. Problems are listed together.
    """
    wish = MaskEncoding(None, settings.subject_values, settings.ignore_value)
    checked = [check_samples(samples, wish) for samples in _sets(settings)]
    held = [check_samples(find_samples(Path(settings.validation)), wish)] if settings.validation is not None else []
    (found, looks), (held_apart, other_looks) = (
        _hash_all([one for each in sets for one in each.samples]) for sets in (checked, held)
    )
    groups = _group_copies([pair.content for pair in (*found, *held_apart)], [*looks, *other_looks])
    if held_apart:
        reserved = set(groups[len(found) :])
        chosen = [group in reserved for group in groups[: len(found)]]
        validation = held_apart
    else:
        chosen = _choose_held_out(groups, settings, seed)
        validation = [pair for pair, kept in zip(found, chosen, strict=True) if kept]
    train = [pair for pair, kept in zip(found, chosen, strict=True) if not kept]
    if settings.limit:
        train = sorted(train, key=lambda pair: _hash_fraction(pair.content, seed + 1))[: settings.limit]
    if found and not (train and (validation or settings.validation_scenes)):
        raise DatasetError(
            got=f"{len(train)} pairs to learn from and {len(validation)} to validate on",
            allowed="at least one of each",
            fix="add photos, name a folder for validation, or change data.validation_share",
        )
    together = defaultdict(list)
    for pair, group in zip((*found, *held_apart), groups, strict=True):
        together[group].append(pair.image)
    copies = tuple(tuple(paths) for paths in together.values() if len(paths) > 1)
    sets = [*checked, *held]
    return Catalog(
        tuple(train),
        tuple(validation),
        copies,
        _fingerprint(train, validation),
        notes=tuple(dict.fromkeys(note for one in sets for note in one.notes)),
        warnings=tuple(warning for one in sets for warning in one.warnings),
        looks_inverted=any(one.looks_inverted for one in sets),
    )


def _choose_held_out(groups: Sequence[str], settings: DataSettings, seed: int) -> list[bool]:
    """Tell for each photo, by the group of photos that show the same, whether it is for validation.

    Raises:
        DatasetError: There are fewer groups than folds.
    """
    if not settings.folds:
        return [_hash_fraction(group, seed) < settings.validation_share for group in groups]
    ranked = sorted(set(groups), key=lambda group: _hash_fraction(group, seed))
    if len(ranked) < settings.folds:
        raise DatasetError(
            got=f"{len(ranked)} different photos for {settings.folds} folds", fix="add photos, or lower data.folds"
        )
    held = set(ranked[max(1, settings.fold) - 1 :: settings.folds])
    return [group in held for group in groups]


def _sets(settings: DataSettings) -> list[list[Sample]]:
    """List what the settings name, folder by folder, in a stable order."""
    sets = [find_samples(Path(folder)) for folder in settings.folders]
    if (settings.image_dir is None) != (settings.mask_dir is None):
        raise DatasetError(
            got="only one of data.image_dir and data.mask_dir", allowed="both or neither", fix="name the other one too"
        )
    if settings.image_dir is not None and settings.mask_dir is not None:
        sets.append(pair_folders(Path(settings.image_dir), Path(settings.mask_dir)))
    return sets


def _hash_all(samples: Sequence[Sample]) -> tuple[list[Pair], list[np.ndarray]]:
    """Hash what the photos show; see ``_hash_pair``."""
    with ThreadPoolExecutor() as pool:
        hashed = list(pool.map(_hash_pair, samples))
    return [pair for pair, _ in hashed], [look for _, look in hashed]


def _hash_pair(sample: Sample) -> tuple[Pair, np.ndarray]:
    """Hash what one photo shows.

    Returns:
        The pair, and a small grey copy of the photo as a vector of mean 0 and length 1; of length 0 if it is of one
        grey.
    """
    try:
        with Image.open(sample.image) as photo:
            photo.draft("L", (_HASH_SIDE * 8, _HASH_SIDE * 8))
            small = photo.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(got=f"{sample.image} cannot be read: {error}", fix="mend or remove it") from error
    grey = np.asarray(small, np.int16)
    look = (grey - grey.mean()).astype(np.float32).ravel()
    pair = Pair(str(sample.image), str(sample.truth), _difference_hash(grey), sample.encoding, sample.turn)
    return pair, look / max(float(np.linalg.norm(look)), 1.0)


def _difference_hash(grey: np.ndarray) -> str:
    """Hash whether it gets brighter from each cell to the next, which survives scaling and compression."""
    return np.packbits(np.diff(grey, axis=1) > 0).tobytes().hex()


def _group_copies(contents: Sequence[str], looks: Sequence[np.ndarray]) -> list[str]:
    """Name for each hash the smallest hash among those of its copies, directly or by others.

    Args:
        contents: The hash of each photo.
        looks: Its small copy; see ``_hash_pair``.
    """
    look_of = dict(zip(contents, looks, strict=True))
    distinct = sorted(look_of)
    if not distinct:
        return []
    small = np.stack([look_of[content] for content in distinct])
    bits = np.unpackbits(np.array([list(bytes.fromhex(one)) for one in distinct], np.uint8), axis=1)
    signs = bits.astype(np.float32) * 2 - 1
    parents = list(range(len(distinct)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for start in range(0, len(distinct), _CHUNK):
        # Of two rows of signs the product is the number of bits minus twice the number that differ.
        chunk = slice(start, start + _CHUNK)
        close = signs[chunk] @ signs.T >= signs.shape[1] - 2 * _COPY_BITS
        for row, column in np.argwhere(close & (small[chunk] @ small.T >= _COPY_CORRELATION)).tolist():
            first, second = sorted((root(start + row), root(column)))
            parents[second] = first
    names = {content: distinct[root(index)] for index, content in enumerate(distinct)}
    return [names[content] for content in contents]


def _hash_fraction(content: str, seed: int) -> float:
    """Map a content to a number in [0, 1) that looks random and is always the same."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{content}".encode(), digest_size=6).digest()) / 2**48


def _fingerprint(train: Sequence[Pair], validation: Sequence[Pair]) -> str:
    """Hash the contents and the split, whatever the files are called."""
    sides = ["\n".join(sorted(pair.content for pair in pairs)) for pairs in (train, validation)]
    return hashlib.sha256("\n\n".join(sides).encode()).hexdigest()[:16]
