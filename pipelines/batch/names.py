"""Names of photos and results: text that every sink can hold, from which the file's own name follows again."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count

_ON_WINDOWS = os.name == "nt"
_LONGEST_BYTES = 255  # of one part of a path, on every usual file system
_DRIVE = re.compile("[A-Za-z]:")
_ESCAPED = re.compile("%(25|[89A-F][0-9A-F])")
_LOOKS_ESCAPED = re.compile("%(?=25|[89A-F][0-9A-F])")
_RAW_BYTE = re.compile("[\udc80-\udcff]")


def encode_name(name: str) -> str:
    """Write a file's name as text: bytes that are not UTF-8 become %E9 and the like, all else stays as it is.

    No two names become one: a name that holds such an escape itself has its per cent sign written as %25.

    Args:
        name: A name as Python gives it, such bytes as lone surrogates (PEP 383).
    """
    return _RAW_BYTE.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", _LOOKS_ESCAPED.sub("%25", name))


def decode_name(text: str) -> str:
    """Return the file's name that ``encode_name`` has written as text."""

    def original(match: re.Match[str]) -> str:
        byte = int(match[1], 16)
        return "%" if byte == ord("%") else chr(0xDC00 + byte)

    return _ESCAPED.sub(original, text)


def safe_key(path: str) -> str:
    """Turn a path or URI into a path below the target that cannot leave it; nothing may be left of it.

    On Windows drives fall away, too, and other colons, which would name a drive or a stream of a file, become %3A.
    """
    address, mark, rest = path.partition("://")
    plain = rest.split("?")[0] if mark else address
    parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if _ON_WINDOWS:
        parts = [part.replace(":", "%3A") for part in parts if not _DRIVE.fullmatch(part)]
    return encode_name("/".join(parts))


def forward_slashes(address: str) -> str:
    """Write the path of a local file or folder with forward slashes; a backslash separates on Windows alone."""
    return address.replace("\\", "/") if _ON_WINDOWS and "://" not in address else address


def mask_name(output: str) -> str:
    """Name of the mask that belongs to a result."""
    return posixpath.splitext(output)[0] + ".png"


def printable(text: str) -> str:
    """Write text for a table or a terminal: line breaks, control characters and lone surrogates as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def name_outputs(keys: Iterable[str], claimed: Mapping[str, str], suffix: str) -> dict[str, str]:
    """Give every photo a name for its result that no other has, the same one in every run.

    Names mirror the source's tree. Where two would be equal (a.jpg, a.png), both keep their old ending
    (a.jpg.png, a.png.png). Names that were given before stay.

    Args:
        keys: The photos.
        claimed: Photo and name of results from earlier runs.
        suffix: Ending of the results, with its dot.

    Returns:
        Key and name of each result.
    """
    fresh = sorted(key for key in keys if key not in claimed)
    wanted = {key: _shortened(posixpath.splitext(key)[0], suffix) for key in fresh}
    return {**claimed, **distinct_names(wanted, lambda key, end: _shortened(key, f"{end}{suffix}"), claimed.values())}


def distinct_names(
    wanted: Mapping[str, str], fallback: Callable[[str, str], str], taken: Collection[str] = ()
) -> dict[str, str]:
    """Keep names that only one has, and give the others names of their own.

    Names that some file system takes for one are equal: those that differ in case, or in how a letter with an accent
    is composed.

    Args:
        wanted: What each should be called.
        fallback: Another name for one of them; its second argument is an ending (-2, -3, …), at first empty.
        taken: Names that others have.
    """
    before = {folded(name) for name in taken}
    times = Counter(map(folded, wanted.values()))
    used = before | {name for name, number in times.items() if number == 1}
    names = {}
    for key, name in wanted.items():
        if times[folded(name)] > 1 or folded(name) in before:
            choices = (fallback(key, "" if number == 1 else f"-{number}") for number in count(1))
            name = next(choice for choice in choices if folded(choice) not in used)
            used.add(folded(name))
        names[key] = name
    return names


def folded(name: str) -> str:
    """Write a name so that equal ones are those that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _shortened(stem: str, suffix: str) -> str:
    """Put a stem and a suffix together; a stem that leaves no room keeps its beginning and gets a hash of the whole."""
    folder, mark, base = stem.rpartition("/")
    if len(os.fsencode(decode_name(base + suffix))) <= _LONGEST_BYTES:
        return stem + suffix
    end = f"~{hashlib.sha256(stem.encode()).hexdigest()[:8]}{suffix}"
    while len(os.fsencode(decode_name(base))) + len(end) > _LONGEST_BYTES:
        base = base[:-1]
    return f"{folder}{mark}{base}{end}"
