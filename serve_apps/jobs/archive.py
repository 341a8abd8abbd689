"""Reads the photos out of a ZIP of a stranger: names, sizes and ratios are checked before anything is unpacked."""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cutray.errors import InputError
from serve_apps.remover.result_names import clean_name

MAGIC = b"PK\x03\x04"
_END, _END_BYTES, _ZIP64_LOCATOR, _LOCATOR_BYTES = b"PK\x05\x06", 22, b"PK\x06\x07", 20
_LONGEST_COMMENT = 65_535
_DIRECTORY_BYTES_PER_ENTRY = 1024  # of the table of contents; usual are 46 and the name
_MOST_RATIO, _RATIO_FROM_BYTES = 200, 4 << 20  # a flat BMP packs well; photos do not
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1
_DRIVE = re.compile(r"[A-Za-z]:")
_IGNORED = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\.[^/]*|Thumbs\.db|desktop\.ini)", re.IGNORECASE)
_BLOCK_BYTES = 1 << 18
_LONGEST_NAME, _DEEPEST = 512, 8


class ArchiveError(InputError):
    """A ZIP is damaged, or holds what is never unpacked."""

    code = "bad_archive"


class TooManyPhotosError(InputError):
    """A job has more photos than it may."""

    code = "too_many_images"


class ZipPhotos:
    """The photos of a ZIP."""

    def __init__(self, file: BinaryIO, *, max_photos: int, max_bytes: int) -> None:
        """Check the table of contents.

        Args:
            file: The ZIP; it stays open as long as photos are read.
            max_photos: Most photos.
            max_bytes: Most bytes of all photos, unpacked.

        Raises:
            ArchiveError: It is damaged, encrypted, or a bomb, or a name leaves the folder or comes twice.
            TooManyPhotosError: It has too many photos.
        """
        self._left = max_bytes
        _check_end(file, max_photos * _DIRECTORY_BYTES_PER_ENTRY)
        try:
            self._archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, UnicodeError) as error:
            raise ArchiveError(got=f"a ZIP that cannot be read: {type(error).__name__}", fix="pack it again") from error
        entries = [entry for entry in self._archive.infolist() if not entry.filename.endswith("/")]
        for entry in entries:
            _check_entry(entry)
        self.entries = [entry for entry in entries if not _IGNORED.fullmatch(entry.filename)]
        if len(self.entries) > max_photos:
            raise TooManyPhotosError(got=f"a ZIP with {len(self.entries)} photos", allowed=f"at most {max_photos}")
        if sum(entry.file_size for entry in self.entries) > max_bytes:
            raise ArchiveError(got="a ZIP that unpacks to too many bytes", allowed=f"at most {max_bytes}")
        self.names = [_clean_path(entry.filename) for entry in self.entries]
        folded = [unicodedata.normalize("NFC", name).casefold() for name in self.names]
        if len(set(folded)) < len(folded):
            raise ArchiveError(got="a ZIP that holds a name twice", allowed="names that differ")

    def blocks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield a photo's bytes, never more than the ZIP promised.

        Raises:
            ArchiveError: It is damaged, longer than promised, or a ZIP itself.
        """
        try:
            with self._archive.open(entry) as file:
                first = True
                while block := file.read(_BLOCK_BYTES):
                    if first and block.startswith((MAGIC, _END)):
                        raise ArchiveError(got="a ZIP within a ZIP", allowed="photos alone")
                    first, self._left = False, self._left - len(block)
                    if self._left < 0:
                        raise ArchiveError(got="a ZIP that unpacks to more than it says", fix="pack it again")
                    yield block
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError) as error:
            raise ArchiveError(
                got=f"{entry.filename[:80]!a} in the ZIP cannot be unpacked", fix="pack it again"
            ) from error


def _check_end(file: BinaryIO, max_directory_bytes: int) -> None:
    """Look at the end of a ZIP, before Python reads a table of contents of any size."""
    size = file.seek(0, 2)
    tail_bytes = min(size, _END_BYTES + _LONGEST_COMMENT + _LOCATOR_BYTES)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_BYTES:
        raise ArchiveError(got="a ZIP without an end", fix="send all of it")
    if tail[max(0, at - _LOCATOR_BYTES) : at].startswith(_ZIP64_LOCATOR):
        raise ArchiveError(got="a ZIP in the ZIP64 format", allowed="fewer than 65,535 files and 4 GiB")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > max_directory_bytes:
        raise ArchiveError(got="a ZIP with too many or too long names", fix="send several jobs")
    file.seek(0)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    """Refuse an entry that could leave the folder, cannot be read, or is a bomb."""
    name = entry.orig_filename
    shown = ascii(name[:80])
    parts = name.split("/")
    if not name or "\x00" in name or "\\" in name or name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        raise ArchiveError(got=f"the name {shown} in the ZIP", allowed="paths below the ZIP's own folder")
    if len(name) > _LONGEST_NAME or len(parts) > _DEEPEST:
        raise ArchiveError(
            got=f"the name {shown} in the ZIP", allowed=f"{_LONGEST_NAME} characters, {_DEEPEST} folders"
        )
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveError(got="an encrypted ZIP", allowed="one without a password")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(got=f"a link, {shown}, in the ZIP", allowed="files")
    if entry.compress_type not in _METHODS:
        raise ArchiveError(got=f"compression method {entry.compress_type} in the ZIP", allowed="stored and deflate")
    if entry.file_size > _RATIO_FROM_BYTES and entry.file_size > _MOST_RATIO * max(1, entry.compress_size):
        raise ArchiveError(got=f"{shown} in the ZIP is packed more than {_MOST_RATIO} times", allowed="photos")


def _clean_path(name: str) -> str:
    """Make a path's parts safe to show and to unpack again."""
    parts = [clean_name(part) for part in name.split("/")]
    return "/".join(part or "_" for part in parts)
