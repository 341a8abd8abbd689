"""What the job calls a photo, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo.

    Attributes:
        key: What the manifest calls it: its path below the source, with forward slashes.
        location: What the source's reader takes, or an address of its own.
        size_bytes: Size, or -1 where it is not known before reading.
        modified_ns: Time of the last change, of the file that holds it if there is one, or -1.
        container: The file that holds it among others, or nothing.
        hints: Location of the file with its hints, or nothing.
    """

    key: str
    location: str
    size_bytes: int = -1
    modified_ns: int = -1
    container: str = ""
    hints: str = ""

    @property
    def name(self) -> str:
        """Its name within its container, or its key."""
        return self.key.removeprefix(f"{self.container}/")
