"""Photos for the benchmarks, made from a few by resizing and encoding, the same ones every time."""

from __future__ import annotations

import io
import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cutray.errors import InputError
from cutray.imaging.decode import decode_image
from pipelines.demo import sample_photos

_LEAST_MP, _MOST_MP = 0.2, 12.0
_FORMATS = {"jpg": 0.7, "png": 0.15, "webp": 0.15}
_LEAST_CROP = 0.8


def photos_of_size(images: Path | None, size_mp: float, folder: Path) -> list[Path]:
    """Write the photos as JPEG at one size and return their paths."""
    paths = []
    for index, picture in enumerate(_sources(images)):
        path = folder / f"{index}_{size_mp}.jpg"
        path.write_bytes(_encode(_resize(picture, size_mp), "jpg", quality=92))
        paths.append(path)
    return paths


def _encode(pixels: np.ndarray, ending: str, quality: int) -> bytes:
    """Encode a photo as other programs do, without Cutray's mark, by which it knows its own results."""
    options: dict[str, dict[str, int]] = {"jpg": {"subsampling": 0}, "webp": {"method": 2}}
    sink = io.BytesIO()
    name = {"jpg": "JPEG"}.get(ending, ending.upper())
    Image.fromarray(pixels).save(sink, name, quality=quality, **options.get(ending, {}))
    return sink.getvalue()


def mixed_photos(images: Path | None, number: int, folder: Path) -> dict[str, float]:
    """Write photos of 0.2 to 12 MP as JPEG, PNG and WebP; the first ones of a larger number are those of a smaller.

    Sizes are spread evenly over their logarithm. Each photo is a crop of a source, mirrored or not, so that no two
    are equal.

    Args:
        images: Folder of source photos, or None for scikit-image's samples.
        number: How many.
        folder: Where they go.

    Returns:
        Their mean size in megapixels and all their bytes.

    Raises:
        InputError: The folder holds no photos.
    """
    sources, chance = _sources(images), np.random.default_rng(0)
    total_mp, total_bytes = 0.0, 0
    for index in range(number):
        picture = sources[index % len(sources)]
        height, width = (round(side * chance.uniform(_LEAST_CROP, 1.0)) for side in picture.shape[:2])
        top, left = (
            int(chance.integers(0, room + 1)) for room in (picture.shape[0] - height, picture.shape[1] - width)
        )
        picture = picture[top : top + height, left : left + width]
        picture = picture[:, ::-1] if chance.random() < 0.5 else picture
        size_mp = math.exp(chance.uniform(math.log(_LEAST_MP), math.log(_MOST_MP)))
        ending = str(chance.choice(list(_FORMATS), p=list(_FORMATS.values())))
        data = _encode(_resize(picture, size_mp), ending, quality=90)
        (folder / f"{index:05d}.{ending}").write_bytes(data)
        total_mp += size_mp
        total_bytes += len(data)
    return {"mean_mp": total_mp / number, "bytes": total_bytes}


def _sources(images: Path | None) -> list[np.ndarray]:
    """Load the source photos, (H, W, 3) uint8 each."""
    if images is None:
        return [picture for picture in sample_photos().values() if picture.ndim == 3]
    sources = [decode_image(path.read_bytes()).pixels for path in sorted(images.iterdir()) if path.is_file()]
    if not sources:
        raise InputError(got=f"no photos in {str(images)!r}", fix="name another folder with --images")
    return sources


def _resize(picture: np.ndarray, size_mp: float) -> np.ndarray:
    """Bring a picture to a number of megapixels."""
    scale = (size_mp * 1e6 / (picture.shape[0] * picture.shape[1])) ** 0.5
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=way))
