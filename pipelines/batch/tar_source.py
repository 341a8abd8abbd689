"""Photos in tar files, as WebDataset writes them. Members are found by their headers and never unpacked to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from cutray.config import InputLimits
from cutray.errors import InputError
from cutray.imaging.limits import check_bytes
from cutray.imaging.photo_files import PHOTO_SUFFIXES
from pipelines.batch.names import safe_key
from pipelines.batch.photo import Photo
from pipelines.batch.storage_base import FileInfo, Storage

_DAMAGED = (tarfile.TarError, ValueError, OSError, EOFError)


@dataclass(frozen=True)
class TarSource:
    """Uncompressed tar files in a folder; a location is the file's name, an offset and a size.

    Attributes:
        storage: The folder.
        image_ending: Ending of the photos, such as ``jpg`` or ``input.png``; without it every ending of a photo
            counts, and the first photo of a sample is taken.
    """

    storage: Storage
    image_ending: str | None = None

    @property
    def address(self) -> str:
        """The folder's address."""
        return self.storage.address

    def photos(self, file: FileInfo) -> Iterator[Photo]:
        """Yield one photo of each sample; members of one sample follow each other and share their name to the dot.

        Raises:
            InputError: The file is no tar file, is compressed, or ends too early; what came before is good.
        """
        taken = None
        for member in self._members(file.name):
            folder, _, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            sample = f"{folder}/{stem}"
            if sample == taken or not self._wanted(ending.lower()) or not safe_key(member.name):
                continue
            taken = sample
            yield Photo(
                f"{file.name}/{safe_key(member.name)}",
                f"{file.name}#{member.offset_data}:{member.size}",
                member.size,
                file.modified_ns,
                file.name,
            )

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read one member.

        Raises:
            InputError: It cannot be read, or has too many bytes.
        """
        file_name, _, spot = name.rpartition("#")
        if not spot:
            for _ in self._members(file_name):
                pass
            raise InputError(got=f"{file_name!r} was damaged when it was listed", fix="run the job again")
        offset, size = map(int, spot.split(":"))
        check_bytes(size, limits)
        with self.storage.open(file_name) as file:
            try:
                file.seek(offset)
                data = file.read(size)
            except OSError as error:
                raise InputError(got=f"{file_name!r} cannot be read: {error}", fix="check the file") from error
        if len(data) < size:
            raise InputError(got=f"{file_name!r} ends within a photo", fix="restore the file")
        return data

    def _wanted(self, ending: str) -> bool:
        """Whether a member is a photo by its ending."""
        return ending == self.image_ending.lower() if self.image_ending else f".{ending}" in PHOTO_SUFFIXES

    def _members(self, name: str) -> Iterator[tarfile.TarInfo]:
        """Yield the plain files of an archive."""
        with self.storage.open(name) as file:
            try:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    before = -1
                    while (member := archive.next()) is not None:
                        archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                        if member.offset <= before or member.size < 0:
                            raise ValueError("its members lie on each other")
                        before = member.offset
                        if member.isreg() and not member.issparse():
                            yield member
            except _DAMAGED as error:
                raise InputError(
                    got=f"{name!r} cannot be read: {error}",
                    allowed="whole tar files without compression",
                    fix="restore or unpack it",
                ) from error
