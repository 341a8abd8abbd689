"""What a person says about a photo, in the photo's pixels: a box, and marks of what is kept and what is dropped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cutray.config import HintSettings, InputLimits
from cutray.errors import OptionError
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.imaging.files import read_bytes
from cutray.imaging.subject_box import Box, mask_box, union

Points = str | Sequence[Sequence[float]] | None

# A point marks the pixels within this share of the photo's longer side.
_POINT_RADIUS = 0.0025
# Room around the box that the network sees as well, as a share of the box; around marks outside of it, of the photo.
_ROOM, _MARK_ROOM = 0.15, 0.1
# A picture of strokes may be stretched by at most this to the photo's shape.
_STRETCH = 0.02
# A channel of a stroke's colour is on from this value, and a pixel of a stroke is there from this opacity.
_ON = 128


@dataclass(frozen=True, slots=True)
class Hints:
    """What was said about a photo.

    Attributes:
        height_px: Height of the photo.
        width_px: Width of the photo.
        box: Left, top, right, bottom of the part that the subject is in, or None for the whole photo.
        keep: (H, W) bool, pixels that are the subject's, or None if none were marked.
        drop: (H, W) bool, pixels that are not the subject's, or None if none were marked.
    """

    height_px: int
    width_px: int
    box: Box | None = None
    keep: np.ndarray | None = None
    drop: np.ndarray | None = None

    @property
    def view(self) -> Box:
        """The part of the photo that the network looks at: the box with room around it."""
        if self.box is None:
            return 0, 0, self.width_px, self.height_px
        return self._widen(self.box, _ROOM * (self.box[2] - self.box[0]), _ROOM * (self.box[3] - self.box[1]))

    def cut_view(self, image: np.ndarray) -> np.ndarray:
        """Return the view of a picture of the photo's size."""
        return cut_box(image, self.view)

    @property
    def window(self) -> Box:
        """The part of the photo that is worked on: the view, and all that is to be kept outside of it."""
        view = self.view
        if self.box is None or self.keep is None:
            return view
        marked = mask_box(self.keep)
        if marked is None or union(view, marked) == view:
            return view
        return union(view, self._widen(marked, _MARK_ROOM * self.width_px, _MARK_ROOM * self.height_px))

    def with_marks(self, later: Hints) -> Hints:
        """Return these hints with the marks of later ones, which count where both mark a pixel."""
        keep, drop = _without(self.keep, later.drop), _without(self.drop, later.keep)
        return replace(self, keep=_join(keep, later.keep), drop=_join(drop, later.drop))

    def _widen(self, box: Box, across: float, down: float) -> Box:
        """Add room on all sides, within the photo."""
        left, top, right, bottom = box
        return (
            max(0, int(left - across)),
            max(0, int(top - down)),
            min(self.width_px, int(np.ceil(right + across))),
            min(self.height_px, int(np.ceil(bottom + down))),
        )


def read_hints(
    settings: HintSettings, height_px: int, width_px: int, limits: InputLimits, strokes: DecodedImage | None = None
) -> Hints | None:
    """Bring what was said about a photo to its pixels.

    Args:
        settings: Box, points and strokes.
        height_px: Height of the photo.
        width_px: Width of the photo.
        limits: What a picture of strokes may cost.
        strokes: A decoded picture that takes the place of the one in the settings.

    Returns:
        The hints, or None if nothing was said.

    Raises:
        OptionError: A box or a point lies outside the photo, a box is empty, the strokes have another shape than the
            photo or mark nothing, or a point or a painted pixel is marked as both.
        InputError: The picture of strokes cannot be read.
    """
    if not settings.hinted and strokes is None:
        return None
    box = None if settings.box is None else parse_box(settings.box, height_px, width_px)
    keep, drop = _mark_points(settings, height_px, width_px)
    if strokes is None and settings.strokes is not None:
        strokes = decode_image(read_bytes(settings.strokes, limits), limits)
    if strokes is not None:
        keep, drop = (
            _join(points, drawn)
            for points, drawn in zip((keep, drop), _read_strokes(strokes, height_px, width_px), strict=True)
        )
    if keep is not None and drop is not None and (both := keep & drop).any():
        row, column = np.argwhere(both)[0]
        raise _contradiction(int(column), int(row))
    return Hints(height_px, width_px, box, keep, drop)


def parse_box(text: str, height_px: int, width_px: int) -> Box:
    """Read a box.

    Args:
        text: left,top,right,bottom in pixels, or with %.
        height_px: Height of the photo.
        width_px: Width of the photo.

    Returns:
        Left, top, right, bottom in whole pixels; right and bottom are not included.

    Raises:
        OptionError: It reaches outside the photo, or has no area.
    """
    sides = (width_px, height_px, width_px, height_px)
    left, top, right, bottom = (_to_px(part, side) for part, side in zip(text.split(","), sides, strict=True))
    if right > width_px or bottom > height_px:
        raise OptionError(
            got=f"box {text} reaches outside the photo of {width_px} × {height_px} pixels",
            allowed=f"0 to {width_px} across and 0 to {height_px} down, or 0% to 100%",
            fix="give the box in pixels of the upright photo",
        )
    box = (int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom)))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise OptionError(
            got=f"box {text} is empty", allowed="left < right and top < bottom", fix="give two opposite corners"
        )
    return box


def parse_points(name: str, text: str | None, height_px: int, width_px: int) -> list[tuple[int, int]]:
    """Read points.

    Args:
        name: What they are called in a message.
        text: x,y; x,y; … in pixels, or with %; None for none.
        height_px: Height of the photo.
        width_px: Width of the photo.

    Returns:
        (x, y) in whole pixels of each.

    Raises:
        OptionError: A point lies outside the photo.
    """
    points = []
    for pair in filter(str.strip, (text or "").split(";")):
        across, down = pair.split(",")
        x, y = _to_px(across, width_px), _to_px(down, height_px)
        # 100 % is the last pixel, not the one after it.
        x, y = min(x, width_px - 1) if "%" in across else x, min(y, height_px - 1) if "%" in down else y
        if x >= width_px or y >= height_px:
            raise OptionError(
                got=f"{name} point {pair.strip()} lies outside the photo of {width_px} × {height_px} pixels",
                allowed=f"0 to {width_px - 1} across and 0 to {height_px - 1} down, or 0% to 100%",
                fix="give points in pixels of the upright photo",
            )
        points.append((int(x), int(y)))
    return points


def cut_box(array: np.ndarray, box: Box) -> np.ndarray:
    """Return a part of a picture; the whole picture as it is.

    Args:
        array: (H, W, …).
        box: Left, top, right, bottom.
    """
    left, top, right, bottom = box
    if (right - left, bottom - top) == array.shape[1::-1]:
        return array
    return np.ascontiguousarray(array[top:bottom, left:right])


def format_points(points: Points) -> str | None:
    """Write points as a setting holds them.

    Args:
        points: (x, y) in pixels of each, or a text that is one already.
    """
    if points is None or isinstance(points, str):
        return points or None
    return "; ".join(f"{x:g},{y:g}" for x, y in points) or None


def _to_px(text: str, side_px: int) -> float:
    """Turn a number or a percentage into pixels."""
    number = float(re.sub("[%\\s]", "", text))
    if "%" not in text:
        return number
    # More than all of it is outside, however small the photo.
    return number / 100 * side_px if number <= 100 else float("inf")


def _mark_points(settings: HintSettings, height_px: int, width_px: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mark the points of both kinds; where their discs overlap, only the points themselves are marked."""
    kept, dropped = (
        parse_points(name, text, height_px, width_px)
        for name, text in (("keep", settings.keep), ("drop", settings.drop))
    )
    if both := sorted(set(kept) & set(dropped)):
        raise _contradiction(*both[0])
    keep, drop = _draw(kept, height_px, width_px), _draw(dropped, height_px, width_px)
    if keep is not None and drop is not None:
        overlap = keep & drop
        for mask, points in ((keep, kept), (drop, dropped)):
            mask &= ~overlap
            mask[[y for _, y in points], [x for x, _ in points]] = True
    return keep, drop


def _contradiction(x: int, y: int) -> OptionError:
    """Tell where a pixel is marked as both."""
    return OptionError(
        got=f"keep and drop are both marked at {x},{y}",
        allowed="one of them for each pixel",
        fix="take one of the two marks away",
    )


def _draw(points: Sequence[tuple[int, int]], height_px: int, width_px: int) -> np.ndarray | None:
    """Mark points as discs that are large enough to be found again in a shrunk photo."""
    if not points:
        return None
    marked = np.zeros((height_px, width_px), np.uint8)
    for point in points:
        cv2.circle(marked, point, round(_POINT_RADIUS * max(height_px, width_px)), 1, cv2.FILLED)
    return marked.astype(bool)


def _join(one: np.ndarray | None, two: np.ndarray | None) -> np.ndarray | None:
    """Return the pixels that either marks."""
    return two if one is None else one if two is None else one | two


def _without(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Return the pixels that the first marks and the second does not; None if there are none."""
    if one is None or other is None:
        return one
    left = one & ~other
    return left if left.any() else None


def _read_strokes(picture: DecodedImage, height_px: int, width_px: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Find the green and the red pixels of a picture of strokes, at the photo's size."""
    rows, columns = picture.pixels.shape[:2]
    if abs(np.log((columns / rows) / (width_px / height_px))) > _STRETCH:
        raise OptionError(
            got=f"strokes of {columns} × {rows} pixels for a photo of {width_px} × {height_px}",
            allowed="the photo's size, or its shape",
            fix="draw the strokes on the upright photo",
        )
    red, green, blue = (picture.pixels[..., channel] >= _ON for channel in range(3))
    there = ~blue if picture.alpha is None else ~blue & (picture.alpha >= _ON)
    keep, drop = (there & one & ~other for one, other in ((green, red), (red, green)))
    if not keep.any() and not drop.any():
        raise OptionError(
            got="a picture of strokes without a stroke",
            allowed="green (0,255,0) for what is kept and red (255,0,0) for what is dropped",
            fix="draw some, or leave the picture out",
        )
    keep, drop = (_fit(mask, height_px, width_px) for mask in (keep, drop))
    drop &= ~keep  # strokes that only touch may share a pixel of a smaller photo
    return keep if keep.any() else None, drop if drop.any() else None


def _fit(mask: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Bring a mask to a size; thin strokes are not lost."""
    if mask.shape == (height_px, width_px):
        return mask
    shrinks = mask.size > height_px * width_px
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    scaled = cv2.resize(mask.astype(np.float32), (width_px, height_px), interpolation=how)
    return np.asarray(scaled > (0.25 if shrinks else 0.5))
