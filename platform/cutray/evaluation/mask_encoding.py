"""What the stored values of a set's masks mean.

Labelling tools write subjects as 255, as 1, as class numbers, as palette entries or as transparency. Which of these
a set uses is settled once, over all of its files: a single file can be empty, and then shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.errors import DatasetError
from cutray.evaluation.masks import MaskEncoding, StoredMask

# More different values than this mean a soft mask; labels have fewer.
_MOST_LABELS = 24
_HIGHEST_CLASS = 63
_UNKNOWN = frozenset({127.0, 128.0})
# Share of a mask's pixels that noise of compression may set to 1.
_NOISE = 0.001
_SAMPLE_SIDE = 32


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What a mask shows about its set.

    Attributes:
        name: Name of the file.
        full: As in ``StoredMask``, like ``labels``.
        labels: Whether the values are labels.
        levels: The different values, or None where there are too many for labels.
        top: The highest value.
        above_zero: Share of the pixels above 0.
        size: Width and height in pixels.
        turned: As in ``StoredMask``.
        sample: (32, 32) stored values, evenly spaced.
    """

    name: str
    full: float
    labels: bool
    levels: frozenset[float] | None
    top: float
    above_zero: float
    size: tuple[int, int]
    turned: bool
    sample: NDArray[Any]


def facts_of(stored: StoredMask, name: str) -> MaskFacts:
    """Collect what a mask shows about its set.

    Args:
        stored: The mask.
        name: Name of its file.
    """
    values = stored.values
    if values.dtype == np.uint8:
        levels = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    else:
        levels = np.unique(values)
    few = frozenset(map(float, levels)) if len(levels) <= _MOST_LABELS else None
    rows, columns = (np.linspace(0, length - 1, _SAMPLE_SIDE).astype(int) for length in values.shape)
    return MaskFacts(
        name=name,
        full=stored.full,
        labels=stored.labels,
        levels=few,
        top=float(levels[-1]),
        above_zero=float((values > 0).mean()),
        size=(values.shape[1], values.shape[0]),
        turned=stored.turned,
        sample=values[np.ix_(rows, columns)],
    )


def choose_encoding(facts: Sequence[MaskFacts], wish: MaskEncoding) -> tuple[MaskEncoding, list[str]]:
    """Settle what the values of a set's masks mean.

    Args:
        facts: What each mask shows.
        wish: What the user has said about it.

    Returns:
        The encoding, and notes on what was recognised.

    Raises:
        DatasetError: The values can mean several things; the message says how to settle it.
    """
    levels = _all_levels(facts, wish.ignore_value)
    if wish.subject_values == (0.0,) and levels is None:
        return MaskEncoding(None, (), wish.ignore_value, inverted=True), ["the masks are taken as inverted"]
    if wish.subject_values:
        return wish, []
    top = max((one.top for one in facts), default=0.0)
    if levels is not None and wish.ignore_value is not None:
        top = max(levels, default=0.0)
    if any(one.labels for one in facts):
        return _labels(levels, wish)
    full = max((one.full for one in facts), default=255.0)
    _refuse_mixture(facts)
    if levels is not None and _are_classes(levels):
        raise _ambiguous(f"the values {_shown(levels)}, which look like class numbers", levels)
    if top in (0.0, full):
        return _with_unknown(levels, full, wish)
    if top == 1.0:
        return MaskEncoding(1.0, (), wish.ignore_value), ["the masks hold 0 and 1: 1 is taken as the subject"]
    if full == 65535.0 and top <= 255.0:
        encoding, notes = _with_unknown(levels, 255.0, wish)
        return (
            MaskEncoding(255.0, (), encoding.ignore_value),
            [*notes, "the masks hold values up to 255 in 16 bits: 255 is taken as the subject"],
        )
    if levels is not None and len(levels) == 2 and 0.0 in levels:
        return MaskEncoding(top, (), wish.ignore_value), [
            f"the masks hold 0 and {top:g}: {top:g} is taken as the subject"
        ]
    if full == 1.0 and top <= 255.0:
        return MaskEncoding(255.0, (), wish.ignore_value), ["the masks hold floating-point values up to 255"]
    if top < full / 4:
        raise _ambiguous(f"no value above {top:g}, of {full:g} that are possible", levels)
    return MaskEncoding(None, (), wish.ignore_value), []


def _all_levels(facts: Sequence[MaskFacts], ignored: float | None) -> frozenset[float] | None:
    """Collect the different values of a set; None where they are a scale."""
    together: set[float] = set()
    for one in facts:
        if one.levels is None:
            return None
        together |= one.levels
    together.discard(-1.0 if ignored is None else ignored)
    return frozenset(together) if len(together) <= _MOST_LABELS else None


def _are_classes(levels: frozenset[float]) -> bool:
    """Whether values are numbers of classes, perhaps with 255 for pixels without one."""
    numbers = levels - {255.0}
    highest = max(numbers, default=0.0)
    several = len(numbers - {0.0}) > 1 or (255.0 in levels and highest > 0)
    return several and highest <= _HIGHEST_CLASS and all(value == int(value) for value in numbers)


def _labels(levels: frozenset[float] | None, wish: MaskEncoding) -> tuple[MaskEncoding, list[str]]:
    """Settle the meaning of palette entries or colors."""
    if levels is not None and len(levels) <= 2 and 0.0 in levels:
        subject = max(levels)
        note = f"the masks are colored: entry {subject:g} of their palette is taken as the subject"
        return MaskEncoding(None, (subject or 1.0,), wish.ignore_value), [note]
    raise _ambiguous(f"the palette entries {_shown(levels)}", levels)


def _with_unknown(levels: frozenset[float] | None, white: float, wish: MaskEncoding) -> tuple[MaskEncoding, list[str]]:
    """Recognise the third value of a trimap."""
    middle = (levels or frozenset()) - {0.0, white}
    if wish.ignore_value is None and levels is not None and white in levels and len(middle) == 1 and middle <= _UNKNOWN:
        (value,) = middle
        note = f"the masks hold 0, {value:g} and {white:g}: {value:g} is taken as unknown and left out"
        return MaskEncoding(None, (), value), [note]
    return MaskEncoding(None, (), wish.ignore_value), []


def _refuse_mixture(facts: Sequence[MaskFacts]) -> None:
    """Refuse a set in which some masks hold 0 and 1, and others go up to the highest value."""
    small = [one.name for one in facts if one.top == 1.0 < one.full and one.above_zero > _NOISE]
    other = [one.top for one in facts if one.top > 1.0 and (one.levels is None or 1.0 not in one.levels)]
    if small and other:
        shown = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        raise DatasetError(
            got=f"{len(small)} masks hold 0 and 1, the others values up to {max(other):g}: {shown}",
            allowed="masks of one kind",
            fix="multiply those by 255, or keep them in a folder of their own",
        )


def _ambiguous(what: str, levels: frozenset[float] | None) -> DatasetError:
    """Say that the values of a set can mean several things."""
    example = next((value for value in sorted(levels or ()) if value), 1.0)
    return DatasetError(
        got=f"the masks hold {what}",
        allowed="a scale from background to subject, or two values",
        fix=f"say which values are the subject, such as subject value {example:g} "
        f"(`evaluate --subject-value {example:g}`, `train --subject-value {example:g}`; several times for several)",
    )


def _shown(levels: frozenset[float] | None) -> str:
    """List some values."""
    if levels is None:
        return "of many kinds"
    ordered = [f"{value:g}" for value in sorted(levels)]
    return ", ".join(ordered[:8]) + (f" … {ordered[-1]}" if len(ordered) > 8 else "")
