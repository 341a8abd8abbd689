"""Names the results of a batch after the photos that were sent, whatever a client calls those."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count

_LONGEST_BYTES = 120  # of a name without its ending: unpacked into deep folders, it must still fit
_FORBIDDEN = frozenset('<>:"|?*')  # on Windows
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def clean_name(name: str) -> str:
    """Return a file's name without folders, control characters and what some systems do not allow.

    Args:
        name: What the client sent; empty if it named no file.

    Returns:
        The name with its ending; empty if nothing is left of it.
    """
    base = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    printable = "".join("_" if char in _FORBIDDEN or not char.isprintable() else char for char in base)
    clean = printable.strip(" .")
    if _DEVICES.fullmatch(clean):
        clean = f"_{clean}"
    stem, dot, ending = clean.rpartition(".")
    if not dot:
        stem, ending = clean, ""
    return _shorten(stem, _LONGEST_BYTES) + (dot + _shorten(ending, 16) if dot else "")


def name_results(uploaded: Sequence[str], endings: Sequence[str | None]) -> list[str | None]:
    """Choose a name for each result: that of its photo, with the result's ending.

    Args:
        uploaded: Names of the photos, from ``clean_name``.
        endings: Ending of each result without a dot, or None for a photo without one.

    Returns:
        Names that differ even where case does not count, or None. A photo without a name is called by its number. Of
        several with one name, all but the first get a number.
    """
    taken: set[str] = set()
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    names: list[str | None] = []
    for number, (name, ending) in enumerate(zip(uploaded, endings, strict=True), 1):
        if ending is None:
            names.append(None)
            continue
        stem = posixpath.splitext(name)[0] or f"{number:02d}"
        chosen = f"{stem}.{ending}"
        while chosen.casefold() in taken:
            chosen = f"{stem}-{next(numbers[stem.casefold()])}.{ending}"
        taken.add(chosen.casefold())
        names.append(chosen)
    return names


def _shorten(text: str, longest_bytes: int) -> str:
    """Cut a text off at a length in bytes, between two characters."""
    return text.encode("utf-8", "replace")[:longest_bytes].decode("utf-8", "ignore")
