"""Copy the bytes of a weight file, hash them on the way, and compare them with what is pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO

from cutray.errors import ChecksumError
from cutray.models.catalog import ModelSpec, Source
from cutray.models.hashing import Hasher, check

Progress = Callable[[str, int, int | None], None]

_BLOCK_BYTES = 1 << 20
_CAP_BYTES = 1 << 30


def read_blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a stream in blocks."""
    return iter(lambda: stream.read(_BLOCK_BYTES), b"")


def copy_blocks(
    spec: ModelSpec, blocks: Iterable[bytes], out: IO[bytes], hasher: Hasher, progress: Progress | None
) -> None:
    """Copy and hash what comes, and stop as soon as it is longer than it may be."""
    cap = spec.size_bytes or _CAP_BYTES
    for block in blocks:
        if hasher.size_bytes + len(block) > cap:
            raise ChecksumError(got=f"{spec.file} is longer than {cap} bytes", allowed=f"at most {cap} bytes")
        out.write(block)
        hasher.update(block)
        if progress:
            progress(spec.file, hasher.size_bytes, spec.size_bytes or None)


def check_transfer(spec: ModelSpec, source: Source, hasher: Hasher) -> None:
    """Compare what was fetched with the pins."""
    check(
        str(source),
        hasher.digests(),
        hasher.size_bytes,
        sha256=spec.sha256,
        md5=spec.md5,
        expected_bytes=spec.size_bytes,
        fix="",
    )
