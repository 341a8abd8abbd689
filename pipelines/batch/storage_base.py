"""What every storage offers, whatever is behind it: files with a size and a time, read and written whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from cutray.config import InputLimits


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a folder: its path below the folder with forward slashes, size, and time of its last change."""

    name: str
    size_bytes: int
    modified_ns: int


class Reader(Protocol):
    """Where photos are read from: a folder, or files that hold many photos. Objects pickle, so that they can travel."""

    @property
    def address(self) -> str:
        """Where it is, without credentials."""

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read a photo by its location, or raise InputError."""


class Storage(Reader, Protocol):
    """A folder."""

    def walk(self) -> Iterator[FileInfo]:
        """Yield every file to the bottom, in order of their names; hidden ones are left out."""

    def find(self, name: str) -> FileInfo | None:
        """Look one file up; None where there is no such file."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file to read parts of it, or raise InputError."""

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write a file whole or not at all, or raise OutputError."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that replaces the one of that name when the block ends well, or raise OutputError."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""

    def sweep(self) -> int:
        """Remove what a killed process left unfinished, and return how many files that were."""
