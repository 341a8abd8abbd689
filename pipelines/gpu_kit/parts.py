"""Files that are carried in parts of a limited size, each with its hash; what arrives incomplete is refused."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cutray.errors import InputError
from cutray.imaging.files import create_atomically, write_atomically

# What one transfer takes.
PART_BYTES = 16 << 20
_DIGITS = 16
_INFO = ".part"


def write_parts(source: Path, name: str, folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Split a file.

    Args:
        source: What to split.
        name: What it is called where the parts are joined; may hold slashes.
        folder: Where the parts go. Their names hold letters, digits, dots and dashes alone.
        part_bytes: Largest size of a part.

    Returns:
        The parts in order. Each begins with a line of JSON: name, number, count, and the hashes of part and file.
    """
    whole, room = _hash(source), part_bytes - 512
    size = source.stat().st_size
    count = max(1, -(-size // room))
    # Two files may hold the same, such as the average and the best weights of a run.
    key = hashlib.sha256(f"{name}:{whole}".encode()).hexdigest()[:_DIGITS]
    written = []
    with source.open("rb") as file:
        for number in range(count):
            data = file.read(room)
            head = {"name": name, "number": number, "count": count, "sha256": whole}
            line = json.dumps({**head, "part": hashlib.sha256(data).hexdigest()}).encode() + b"\n"
            path = folder / f"{key}-{number:03}{_INFO}"
            write_atomically(path, line + data, overwrite=True)
            written.append(path)
    return written


def join_parts(folders: Iterable[Path], target: Path) -> tuple[list[Path], list[str]]:
    """Put together what is complete.

    Args:
        folders: Where parts lie; several transfers may have brought them.
        target: Folder to write to.

    Returns:
        The files that are whole, and the names of those of which parts are missing.

    Raises:
        InputError: A part is damaged, or wants to be written elsewhere.
    """
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    heads: dict[str, dict[str, Any]] = {}
    every = (one for folder in folders for one in folder.rglob(f"*{_INFO}"))
    # Of two files of one name the one that came last holds; parts of both are never mixed.
    for path in sorted(every, key=lambda one: (one.stat().st_mtime_ns, one.name)):
        head = _head(path)
        if heads.get(head["name"], head)["sha256"] != head["sha256"]:
            found[head["name"]].clear()
        heads[head["name"]] = head
        found[head["name"]][head["number"]] = path
    files, missing = [], []
    for name, head in heads.items():
        if len(found[name]) < head["count"]:
            missing.append(name)
            continue
        path = (target / name).resolve()
        if not path.is_relative_to(target.resolve()):
            raise InputError(got=f"a part of {name!r}", allowed="names below the folder", fix="pack it anew")
        path.parent.mkdir(parents=True, exist_ok=True)
        with create_atomically(path, overwrite=True) as file:
            for number in range(head["count"]):
                file.write(_data(found[name][number]))
        if _hash(path) != head["sha256"]:
            raise InputError(got=f"{name} differs from what was split", fix="bring its parts again")
        files.append(path)
    return files, missing


def _head(path: Path) -> dict[str, Any]:
    """Read the line that a part begins with."""
    try:
        with path.open("rb") as file:
            return dict(json.loads(file.readline(4096)))
    except (OSError, ValueError) as error:
        raise InputError(got=f"{path} is no part: {error}", fix="bring it again") from error


def _data(path: Path) -> bytes:
    """Read a part and compare it with its hash."""
    with path.open("rb") as file:
        head, data = json.loads(file.readline(4096)), file.read()
    if hashlib.sha256(data).hexdigest() != head["part"]:
        raise InputError(got=f"{path} is damaged", fix="bring it again")
    return data


def loads(parts: Iterable[Path], load_bytes: int) -> Iterator[list[Path]]:
    """Group parts into transfers of a limited size, in order."""
    group: list[Path] = []
    taken = 0
    for part in parts:
        size = part.stat().st_size
        if group and taken + size > load_bytes:
            yield group
            group, taken = [], 0
        group.append(part)
        taken += size
    if group:
        yield group


def _hash(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
