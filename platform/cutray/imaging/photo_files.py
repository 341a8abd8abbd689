"""Which files in a folder are photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cutray.errors import DecodeError
from cutray.imaging.detect_format import detect_format

# Endings that are worth opening in a folder; a file named on its own is always opened.
_PHOTO_ENDINGS = "jpg jpeg jpe jfif mpo png apng webp avif heic heif tif tiff bmp dib gif"
PHOTO_SUFFIXES = frozenset(f".{ending}" for ending in _PHOTO_ENDINGS.split())
_HEAD_BYTES = 1024


def find_photos(folder: Path, exclude: Path | None = None) -> Iterator[Path]:
    """Find photos to the bottom of a folder, in a stable order.

    A photo has one of the known endings, or no ending and the first bytes of a picture. Hidden files and folders are
    left out; links to folders are not followed, so that there are no loops.

    Args:
        folder: Where to search.
        exclude: A folder below it that is left out.

    Yields:
        The photos' paths.
    """
    left_out = None if exclude is None else exclude.resolve()
    for current, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (Path(current) / name).resolve() != left_out
        )
        for name in sorted(files):
            path = Path(current) / name
            if not name.startswith(".") and is_photo(path):
                yield path


def is_photo(path: Path) -> bool:
    """Whether a file is a photo by its ending or, without one, by its first bytes."""
    if not path.is_file():
        return False
    return path.suffix.lower() in PHOTO_SUFFIXES or (not path.suffix and _begins_like_a_picture(path))


def _begins_like_a_picture(path: Path) -> bool:
    """Look at the first bytes of a file."""
    try:
        with open(path, "rb") as file:
            detect_format(file.read(_HEAD_BYTES))
    except (OSError, DecodeError):
        return False
    return True
