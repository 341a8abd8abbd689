"""Hashes of weight files, remembered until a file changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cutray.errors import ChecksumError, WeightsUnavailableError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """Hashes of one file, in hexadecimal; ``md5`` is empty unless it was asked for."""

    sha256: str
    md5: str


class Hasher:
    """Hashes of a stream of bytes, in one pass."""

    def __init__(self, *, with_md5: bool) -> None:
        """Start with nothing read; md5 is left out unless a pin needs it, since it takes twice as long."""
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self.size_bytes = 0

    def update(self, block: bytes) -> None:
        """Take in the next bytes."""
        self._sha256.update(block)
        if self._md5 is not None:
            self._md5.update(block)
        self.size_bytes += len(block)

    def digests(self) -> Digests:
        """Return the hashes of everything taken in so far."""
        return Digests(self._sha256.hexdigest(), self._md5.hexdigest() if self._md5 is not None else "")


def check(what: str, found: Digests, size_bytes: int, *, sha256: str, md5: str, expected_bytes: int, fix: str) -> None:
    """Compare what was read with what is pinned; an empty pin is not compared.

    Raises:
        ChecksumError: Size or hash differ.
    """
    if sha256:
        equal, got, pinned = found.sha256 == sha256, f"sha256 {found.sha256}", f"sha256 {sha256}"
    elif md5:
        equal, got, pinned = found.md5 == md5, f"md5 {found.md5}", f"md5 {md5}"
    else:
        equal, got, pinned = True, "", ""
    if expected_bytes and size_bytes != expected_bytes:
        equal, got, pinned = False, f"{got} and {size_bytes} bytes", f"{pinned} and {expected_bytes} bytes"
    if not equal:
        raise ChecksumError(got=f"{what} has {got}", allowed=f"{pinned} is pinned", fix=fix)


def digest_file(path: Path, cache: Path | None, *, with_md5: bool) -> Digests:
    """Hash a file, or take its hashes from the cache if it has not changed since.

    Args:
        path: The file.
        cache: Folder of remembered hashes; None reads the file in any case.
        with_md5: Take the md5 as well.

    Raises:
        WeightsUnavailableError: The file cannot be read.
    """
    entry = cache / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.json" if cache else None
    try:
        before = _file_state(path)
        if entry and (known := _read_entry(entry, before)) and (known.md5 or not with_md5):
            return known
        hasher = Hasher(with_md5=with_md5)
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                hasher.update(block)
        after = _file_state(path)
    except OSError as error:
        raise WeightsUnavailableError(got=f"{path} cannot be read: {error}", fix="check its permissions") from error
    digests = hasher.digests()
    if entry and before == after:
        _write_entry(entry, path, before, digests)
    return digests


def _file_state(path: Path) -> list[int]:
    """Return what changes when a file is written: size, time of writing, time of status change."""
    status = path.stat()
    # The status time cannot be set back by copying tools, so a file replaced with its old time kept is noticed.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read_entry(entry: Path, state: list[int]) -> Digests | None:
    """Return remembered hashes if they belong to exactly this state of the file."""
    try:
        known = json.loads(entry.read_text(encoding="utf-8"))
        return Digests(**known["digests"]) if known["stamp"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_entry(entry: Path, path: Path, state: list[int], digests: Digests) -> None:
    """Write a cache entry in one step; a cache that cannot be written costs time, nothing else."""
    known = {"stamp": state, "digests": asdict(digests), "path": str(path.absolute())}
    temporary = entry.with_suffix(f".{secrets.token_hex(6)}.part")
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known), encoding="utf-8")
        os.replace(temporary, entry)
        _remove_stale(entry.parent)


def _remove_stale(folder: Path) -> None:
    """Remove the entries of files that are gone, and those that do not say whose they are."""
    for entry in folder.glob("*.json"):
        try:
            stale = not os.path.lexists(json.loads(entry.read_text(encoding="utf-8"))["path"])
        except (OSError, ValueError, KeyError, TypeError):
            stale = True
        if stale:
            entry.unlink(missing_ok=True)
