"""Which files in a folder are photos."""

from __future__ import annotations

# Endings that are worth opening in a folder; a file named on its own is always opened.
_PHOTO_ENDINGS = "jpg jpeg jpe jfif mpo png apng webp avif heic heif tif tiff bmp dib gif"
PHOTO_SUFFIXES = frozenset(f".{ending}" for ending in _PHOTO_ENDINGS.split())
