"""Read masks as their files store them, and turn stored values into coverage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cutray.errors import DatasetError
from cutray.imaging.orientation import apply_orientation

_GREY_TOLERANCE = 8
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class MaskEncoding:
    """What the stored values of a set's masks mean.

    Attributes:
        white: Stored value of full coverage; None means the highest value of the file's type.
        subject_values: Stored values that are the subject, all others being background; empty for a scale up to
            ``white``.
        ignore_value: Stored value of pixels that are neither; None if there is none.
        inverted: Whether the scale shows the background.
    """

    white: float | None = None
    subject_values: tuple[float, ...] = ()
    ignore_value: float | None = None
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class StoredMask:
    """A mask as its file stores it, turned as its own EXIF orientation says.

    Attributes:
        values: (H, W) grey values, alpha values or numbers of palette entries.
        full: Highest value of the file's type: 255, 65535 or 1.
        labels: Whether the values are numbers of palette entries or colors rather than a scale.
        turned: Whether the file had an orientation of its own.
    """

    values: NDArray[Any]
    full: float
    labels: bool = False
    turned: bool = False


def read_stored(path: Path) -> StoredMask:
    """Read a mask without interpreting its values.

    Args:
        path: A grey picture of 8, 16 or 32 bits, one with a palette, a grey or two-colored picture stored as color,
            or one with an alpha channel.

    Raises:
        DatasetError: The file is not a readable picture, is colored, or shows different masks in its colors and its
            alpha channel.
    """
    try:
        with Image.open(path) as picture:
            stored = _values(picture, path)
            turn = picture.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DatasetError(
            got=f"mask {path} cannot be read ({error})", allowed="a PNG or other picture", fix="replace the file"
        ) from error
    if turn not in range(2, 9):
        return stored
    return StoredMask(apply_orientation(stored.values, turn), stored.full, stored.labels, turned=True)


def decode_mask(stored: StoredMask, encoding: MaskEncoding) -> NDArray[np.float32]:
    """Turn stored values into coverage.

    Args:
        stored: The mask.
        encoding: What its values mean.

    Returns:
        (H, W) float32 in [0, 1]; ignored pixels are half covered, since they may be either.
    """
    if encoding.subject_values:
        coverage = np.asarray(np.isin(stored.values, encoding.subject_values), np.float32)
    else:
        white = np.float32(stored.full if encoding.white is None else encoding.white)
        scaled = np.clip(stored.values.astype(np.float32) / white, 0, 1)
        coverage = np.asarray(1 - scaled if encoding.inverted else scaled, np.float32)
    if encoding.ignore_value is not None:
        coverage[stored.values == encoding.ignore_value] = 0.5
    return coverage


def _values(picture: Image.Image, path: Path) -> StoredMask:
    """Return the values of an open picture."""
    mode = picture.mode
    if mode.startswith("I"):
        return StoredMask(np.asarray(picture), 65535.0)
    if mode == "F":
        return StoredMask(np.asarray(picture), 1.0)
    if mode in {"1", "L"} and "transparency" not in picture.info:
        return StoredMask(np.asarray(picture.convert("L")), 255.0)
    rgba = np.asarray(picture.convert("RGBA"))
    alpha: NDArray[np.uint8] = rgba[..., 3]
    colors = rgba[..., :3].astype(np.int16)
    is_grey = int(np.ptp(colors, axis=2).max()) <= _GREY_TOLERANCE
    grey: NDArray[np.uint8] = np.asarray(colors.mean(axis=2).round(), np.uint8)
    # A constant alpha channel says nothing, unless it makes a colored photo disappear: then the mask is empty.
    if alpha.min() < alpha.max() or (not is_grey and not alpha.any()):
        if is_grey and _differ(grey, alpha):
            raise DatasetError(
                got=f"mask {path} shows one mask in its grey values and another one in its alpha channel",
                allowed="one of them",
                fix="save it without the other one",
            )
        return StoredMask(alpha, 255.0)
    if is_grey:
        return StoredMask(grey, 255.0)
    if mode == "P":
        return StoredMask(np.asarray(picture), 255.0, labels=True)
    subject = (colors > _GREY_TOLERANCE).any(axis=2)
    found = colors[subject]
    if subject.all() or int(np.ptp(found, axis=0).max()) > _GREY_TOLERANCE:
        raise DatasetError(
            got=f"mask {path} is colored", allowed="grey values or an alpha channel", fix="save the mask as grey"
        )
    return StoredMask(np.asarray(subject, np.uint8), 255.0, labels=True)


def _differ(grey: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> bool:
    """Whether visible grey values are a mask, black and white, and another one than the alpha channel."""
    visible = grey[alpha > 127]
    if not visible.size:
        return False
    black, white = float((visible < 32).mean()), float((visible > 223).mean())
    return black + white > 0.95 and min(black, white) > 0.01
