"""A file in the cache that an engine made from weights: renamed into place when whole, checked when it is read."""

from __future__ import annotations

import logging
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 22
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class KeptFile:
    """Where such a file is kept. It ends in a checksum, because what engines make is not the same bytes each time.

    Attributes:
        path: The file; its name says what it was made of, and under which conditions.
        replaces: Pattern of names in the same folder: the files that other versions made of the same weights.
    """

    path: Path
    replaces: str

    def is_whole(self) -> bool:
        """Tell whether the file is there and has all its bytes."""
        try:
            with self.path.open("rb") as stream:
                size_bytes = os.fstat(stream.fileno()).st_size - _CHECKSUM.size
                checksum = _checksum(stream, size_bytes)
                whole = size_bytes > 0 and stream.read() == _CHECKSUM.pack(checksum)
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.info("%s cannot be read: %s", self.path, error)
            return False
        if not whole:
            _log.warning("%s is damaged; it is made anew", self.path)
        return whole

    def read(self) -> bytes | None:
        """Return what was kept, or None if it is not there or not whole."""
        try:
            return self.path.read_bytes()[: -_CHECKSUM.size] if self.is_whole() else None
        except OSError:
            return None

    def move_here(self, made: Path) -> None:
        """Put a file that is on the same disk into this place; a cache that cannot be written costs time alone."""
        try:
            with made.open("r+b") as stream:
                # What follows the engine's own bytes is not read by it.
                stream.write(_CHECKSUM.pack(_checksum(stream, os.fstat(stream.fileno()).st_size)))
            os.replace(made, self.path)
            for path in self.path.parent.glob(self.replaces):
                if path != self.path:
                    path.unlink()
        except OSError as error:
            _log.info("%s is not kept: %s", self.path, error)

    def write(self, content: bytes) -> None:
        """Keep bytes; a cache that cannot be written costs time alone."""
        made = self.path.with_suffix(f".{secrets.token_hex(6)}.part")
        try:
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(content)
        except OSError as error:
            _log.info("%s is not kept: %s", self.path, error)
        else:
            self.move_here(made)
        try:
            made.unlink(missing_ok=True)
        except OSError:
            _log.info("%s is left behind", made)


def _checksum(stream: BinaryIO, size_bytes: int) -> int:
    """Return the checksum of the next bytes of a stream."""
    checksum = 0
    while size_bytes > 0 and (block := stream.read(min(_BLOCK_BYTES, size_bytes))):
        checksum = isal_zlib.crc32(block, checksum)
        size_bytes -= len(block)
    return checksum
