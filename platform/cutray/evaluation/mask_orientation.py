"""Whether the masks of turned photos are stored as the photo is stored, or as one sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cutray.errors import DatasetError, DecodeError
from cutray.evaluation.masks import MaskEncoding, decode_mask, read_stored
from cutray.imaging.detect_format import detect_format
from cutray.imaging.orientation import apply_orientation, swaps_sides
from cutray.imaging.readers import heic_plugin

_ORIENTATION_TAG = 0x0112
_HEAD_BYTES = 1024
_SIDE = 192
# So much more of one reading's outline must lie on edges of the photo than of the other one's.
_CLEARER = 1.15
# Readings that overlap so far are the same for all purposes.
_SAME_IOU = 0.98


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What the head of a photo's file says.

    Attributes:
        size: Width and height in pixels, as stored.
        orientation: EXIF value 1 to 8.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as one sees the photo."""
        return (self.size[1], self.size[0]) if swaps_sides(self.orientation) else self.size


@dataclass(frozen=True, slots=True)
class TurnedPair:
    """A pair of files whose photo is stored turned.

    Attributes:
        image: Path of the photo.
        truth: Path of the mask.
        header: The photo's header.
        mask_size: Width and height of the mask, turned by its own orientation if it has one.
        mask_turned: Whether it has one.
    """

    image: Path
    truth: Path
    header: PhotoHeader
    mask_size: tuple[int, int]
    mask_turned: bool


def read_header(path: Path) -> PhotoHeader:
    """Read size and orientation of a photo; raises what Pillow raises.

    Raises:
        MissingExtraError: It is a HEIC, and the package for these is not installed.
    """
    if _is_heic(path):
        with heic_plugin()(path) as photo:
            return PhotoHeader(photo.size, 1)
    with Image.open(path) as photo:
        orientation = photo.getexif().get(_ORIENTATION_TAG, 1)
        return PhotoHeader(photo.size, orientation if orientation in range(1, 9) else 1)


def _is_heic(path: Path) -> bool:
    """Tell a HEIC by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        return detect_format(head) == "HEIC"
    except DecodeError:  # Pillow tells what is wrong with it
        return False


def choose_turns(pairs: Sequence[TurnedPair], encoding: MaskEncoding) -> tuple[list[int], list[str]]:
    """Settle how each mask has to be turned to lie on its photo as one sees it.

    Sizes tell it for photos that are not square and stand on their side. The others follow them; where there are
    none, the outlines are compared with the edges of the photo, both ways.

    Args:
        pairs: Pairs whose sizes fit in one of the two ways.
        encoding: What the values of the masks mean.

    Returns:
        EXIF values to apply to each mask (1 for none), and notes.

    Raises:
        DatasetError: It cannot be told.
    """
    turns = [_by_size(pair) for pair in pairs]
    seen = Counter("upright" if turn == 1 else "stored" for turn in turns if turn is not None)
    open_pairs = [pair for pair, turn in zip(pairs, turns, strict=True) if turn is None]
    if not open_pairs:
        return [turn or 1 for turn in turns], []
    if len(seen) == 1:
        upright = "upright" in seen
    else:
        upright = _by_edges(open_pairs, encoding)
    way = "as one sees the photo" if upright else "as the photo is stored"
    note = f"{len(open_pairs)} photos are stored turned (EXIF orientation); their masks are taken {way}"
    return [turn or (1 if upright else pair.header.orientation) for pair, turn in zip(pairs, turns, strict=True)], [
        note
    ]


def _by_size(pair: TurnedPair) -> int | None:
    """Return how a mask has to be turned, or None where its size does not tell."""
    header = pair.header
    if pair.mask_turned:
        return 1
    if swaps_sides(header.orientation) and header.size[0] != header.size[1]:
        return 1 if pair.mask_size == header.upright_size else header.orientation
    return None


def _by_edges(pairs: Sequence[TurnedPair], encoding: MaskEncoding) -> bool:
    """Tell whether the outlines of upright masks lie on the photos' edges, rather than those of turned ones."""
    scores = np.zeros(2)
    same = True
    for pair in pairs:
        mask = decode_mask(read_stored(pair.truth), encoding)
        readings = [_small(one) > 0.5 for one in (mask, apply_orientation(mask, pair.header.orientation))]
        either = float((readings[0] | readings[1]).sum())
        if either and float((readings[0] & readings[1]).sum()) / either > _SAME_IOU:
            continue
        same = False
        edges = _edges(pair.image)
        scores += [_on_outline(edges, one) for one in readings]
    if same:
        return True
    low, high = sorted(scores.tolist())
    if high < _CLEARER * low or high == 0:
        names = ", ".join(pair.image.name for pair in pairs[:5])
        raise DatasetError(
            got=f"{len(pairs)} photos are stored turned (EXIF orientation), and their masks fit both ways: {names}",
            allowed="masks as one sees the photo, or as it is stored",
            fix="store the photos upright (for instance `mogrify -auto-orient *.jpg`), with masks as one sees them",
        )
    return bool(scores[0] > scores[1])


def _small(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shrink a mask to a small square."""
    return np.asarray(cv2.resize(mask, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _edges(path: Path) -> NDArray[np.float32]:
    """Return how fast a photo's colors change, (S, S), as one sees it; the mean is 1."""
    with Image.open(path) as photo:
        photo.draft("RGB", (_SIDE * 2, _SIDE * 2))
        upright = ImageOps.exif_transpose(photo).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    smooth = cv2.GaussianBlur(np.asarray(upright, np.float32), (0, 0), 1.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_32F, *way) for way in ((1, 0), (0, 1))]
    strength = np.sqrt(sum(slope**2 for slope in slopes)).max(axis=2)
    return np.asarray(strength / max(float(strength.mean()), 1e-6), np.float32)


def _on_outline(edges: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Return the mean strength of edges along a mask's outline; 0 where it has none."""
    kernel = np.ones((3, 3), np.uint8)
    outline = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    return float(edges[outline].mean()) if outline.any() else 0.0
