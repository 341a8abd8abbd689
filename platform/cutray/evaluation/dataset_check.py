"""Checks a set before it is trained on or scored: whether its files can be used, what they mean, what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cutray.errors import DatasetError
from cutray.evaluation.datasets import Sample
from cutray.evaluation.mask_encoding import MaskFacts, choose_encoding, facts_of
from cutray.evaluation.mask_orientation import PhotoHeader, TurnedPair, choose_turns, read_header
from cutray.evaluation.masks import MaskEncoding, StoredMask, decode_mask, read_stored

_SHOWN_PROBLEMS = 10
_NEARLY_ALL = 0.9
# Above this share of subject a mask is as good as full.
_FULL = 0.98
# In an inverted mask nearly all of the border is white, and more than half of the picture.
_WHITE_BORDER, _WHITE_SHARE, _INVERTED_FILES = 0.9, 0.5, 0.8


@dataclass(frozen=True, slots=True)
class CheckedSet:
    """A set that can be used.

    Attributes:
        samples: The pairs; each knows how its mask is read.
        notes: What was recognised about the masks.
        warnings: What looks wrong, but can be meant so.
        looks_inverted: Whether the masks seem to show the background instead of the subject.
    """

    samples: list[Sample]
    notes: list[str]
    warnings: list[str]
    looks_inverted: bool


def check_samples(
    samples: Sequence[Sample], wish: MaskEncoding | None = None, *, skip_unreadable_photos: bool = False
) -> CheckedSet:
    """Read the head of every photo and the whole of every mask, and settle what the masks mean.

    Args:
        samples: Pairs of one set.
        wish: What the user has said about the values of the masks.
        skip_unreadable_photos: Whether a photo that cannot be read is left for later instead of being an error.

    Raises:
        DatasetError: Files cannot be read, sizes differ, or the masks can mean several things. Problems of single
            files are listed together.
    """
    wish = wish or MaskEncoding()
    with ThreadPoolExecutor() as pool:
        looked = list(pool.map(lambda sample: _look(sample, skip_unreadable_photos), samples))
    problems = [found for found in looked if isinstance(found, str)]
    if problems:
        more = f" and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise DatasetError(
            got=f"{len(problems)} pairs cannot be used: {'; '.join(problems[:_SHOWN_PROBLEMS])}{more}",
            allowed="readable photos with masks of the same size",
            fix="mend or remove them",
        )
    found = [pair for pair in looked if not isinstance(pair, str)]
    facts = [facts for facts, _ in found]
    encoding, notes = choose_encoding(facts, wish)
    turned = {
        index: TurnedPair(sample.image, sample.truth, header, facts.size, facts.turned)
        for index, (sample, (facts, header)) in enumerate(zip(samples, found, strict=True))
        if header is not None and header.orientation != 1
    }
    turns, turn_notes = choose_turns(list(turned.values()), encoding)
    by_index = dict(zip(turned, turns, strict=True))
    ready = [replace(sample, encoding=encoding, turn=by_index.get(index, 1)) for index, sample in enumerate(samples)]
    coverage = [_coverage(one, encoding) for one in facts]
    inverted = not wish.subject_values and _look_inverted(coverage)
    return CheckedSet(ready, [*notes, *turn_notes], _suspicions(facts, coverage, encoding), inverted)


def _look(sample: Sample, skip_unreadable_photos: bool) -> tuple[MaskFacts, PhotoHeader | None] | str:
    """Read one pair; return the problem if there is one."""
    try:
        facts = facts_of(read_stored(sample.truth), sample.truth.name)
    except DatasetError as error:
        return f"{sample.stem}: {error.got}; {error.fix}"
    try:
        header = read_header(sample.image)
    except Exception as error:  # Pillow's readers raise whatever they like over damaged files
        return (facts, None) if skip_unreadable_photos else f"{sample.stem}: {error}"
    if facts.size not in (header.upright_size, header.size):
        return f"{sample.image.name} has {header.upright_size}, its mask {facts.size}"
    return facts, header


def _coverage(facts: MaskFacts, encoding: MaskEncoding) -> NDArray[np.bool_]:
    """Return which of a mask's sampled pixels are subject."""
    return decode_mask(StoredMask(facts.sample, facts.full, facts.labels), encoding) > 0.5


def _suspicions(facts: Sequence[MaskFacts], coverage: Sequence[NDArray[np.bool_]], encoding: MaskEncoding) -> list[str]:
    """Name what is seldom meant."""
    if not facts:
        return []
    empty = sum(
        not covered.any() and (bool(encoding.subject_values) or one.above_zero < 0.001)
        for one, covered in zip(facts, coverage, strict=True)
    )
    full = sum(bool(covered.mean() >= _FULL) for covered in coverage)
    return [
        f"{amount} of {len(facts)} masks are {what}: check that they are the right files"
        for amount, what in ((empty, "empty"), (full, "all subject"))
        if amount >= _NEARLY_ALL * len(facts)
    ]


def _look_inverted(coverage: Sequence[NDArray[np.bool_]]) -> bool:
    """Whether nearly all masks that are not full are white along the border and over most of the picture."""
    partial = [covered for covered in coverage if covered.any() and covered.mean() < _FULL]
    white = [
        covered
        for covered in partial
        if covered.mean() > _WHITE_SHARE
        and np.concatenate([covered[0], covered[-1], covered[:, 0], covered[:, -1]]).mean() >= _WHITE_BORDER
    ]
    return bool(partial) and len(white) >= _INVERTED_FILES * len(partial)
