"""A file in the cache that an engine made from weights: renamed into place when whole, checked when it is read."""

from __future__ import annotations

import logging
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

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
        return self.read() is not None

    def read(self) -> NDArray[np.uint8] | None:
        """Map what was kept into memory, or return None if it is not there or not whole.

        Returns:
            (N,) uint8. Nothing that is written to it reaches the file.
        """
        try:
            # Mapped, because copying a network's bytes takes longer than computing their checksum.
            content = np.memmap(self.path, np.uint8, mode="c") if self.path.stat().st_size else np.empty(0, np.uint8)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.info("%s cannot be read: %s", self.path, error)
            return None
        kept, end = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
        if not kept.size or end.tobytes() != _CHECKSUM.pack(isal_zlib.crc32(kept)):
            _log.warning("%s is damaged; it is made anew", self.path)
            return None
        return kept

    def move_here(self, made: Path) -> None:
        """Put a file that is on the same disk into this place; a cache that cannot be written costs time alone."""
        try:
            with made.open("r+b") as stream:
                checksum = 0
                while block := stream.read(_BLOCK_BYTES):
                    checksum = isal_zlib.crc32(block, checksum)
                # What follows the engine's own bytes is not read by it.
                stream.write(_CHECKSUM.pack(checksum))
            os.replace(made, self.path)
            for path in self.path.parent.glob(self.replaces):
                if path != self.path:
                    path.unlink()
        except OSError as error:
            _log.info("%s is not kept: %s", self.path, error)

    def write(self, content: bytes | memoryview) -> None:
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
