"""Takes corrected cutouts of sample photos over as pairs of photo and mask."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cutray.config import InputLimits
from cutray.errors import CutrayError, InputError
from cutray.imaging.decode import decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.files import read_bytes, write_atomically
from cutray.imaging.photo_files import is_photo

_LIMITS = InputLimits()
# What the page adds to a photo's name: its place among several in front, a word behind.
_SAVED_NAME = re.compile(r"(?:\d{2,}-)?(?P<name>\d{4}-[0-9a-f]{16})(?:-cutout)?(?: ?\(\d+\))?")


def accept_corrected(samples: Path, corrected: Path, output: Path) -> tuple[int, list[str]]:
    """Write a pair for each corrected cutout; one that is there already is replaced.

    Args:
        samples: Folder with ``images``, from the endpoint.
        corrected: Cutouts with an alpha channel, named as the page names them.
        output: Gets ``images`` and ``masks``.

    Returns:
        How many pairs were written, and what is wrong with other files.

    Raises:
        InputError: A folder holds nothing of the kind.
    """
    photos = {path.stem: path for path in (samples / "images").glob("*.jpg")}
    if not photos:
        raise InputError(
            got=f"no photos in {samples / 'images'}", allowed="the folder of `cutray serve --samples`", fix="check it"
        )
    taken, problems = 0, []
    for path in sorted(path for path in corrected.rglob("*") if is_photo(path)):
        found = _SAVED_NAME.fullmatch(path.stem)
        photo = photos.get(found["name"]) if found else None
        if photo is None:
            problems.append(f"{path.name}: no sample has this name; keep the name that the page gives")
            continue
        problem = _accept(photo, path, output)
        problems += [f"{path.name}: {problem}"] if problem else []
        taken += not problem
    return taken, problems


def _accept(photo: Path, cutout: Path, output: Path) -> str:
    """Write one pair; returns what is wrong, or nothing."""
    try:
        data = read_bytes(str(photo), _LIMITS)
        image, made = decode_image(data, _LIMITS), decode_image(read_bytes(str(cutout), _LIMITS), _LIMITS)
    except CutrayError as error:
        return str(error)
    if made.alpha is None:
        return "it has no alpha channel; save it without a background"
    if made.alpha.shape != image.pixels.shape[:2]:
        height, width = image.pixels.shape[:2]
        return f"it is not {width}x{height} px, as the photo; save it without crop, canvas and size"
    write_atomically(
        output / "masks" / f"{photo.stem}.png", encode_image(np.asarray(made.alpha), "PNG"), overwrite=True
    )
    write_atomically(output / "images" / photo.name, data, overwrite=True)
    return ""
