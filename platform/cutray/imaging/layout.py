"""Where the subject goes on the canvas: plain arithmetic, before any pixel is touched."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cutray.config import InputLimits, PictureSettings
from cutray.config.lengths import Sides, Size, parse_position, parse_scale, parse_sides, parse_size, room_px
from cutray.errors import OptionError
from cutray.imaging.limits import check_size
from cutray.imaging.shadow import Borders, reach
from cutray.imaging.subject_box import Box, crop_box, find_subject_box, union

# Around the subject's box alpha is below what counts as visible, but not always zero.
_FAINT_EDGE = 0.02
_NOTED_ENLARGEMENT = 1.01
# A subject of a pixel or two on a large canvas is no picture, and what surrounds it would fill the memory.
_MOST_ENLARGEMENT = 64.0


@dataclass(frozen=True, slots=True)
class Layout:
    """A part of the photo, and where on the canvas it goes.

    Attributes:
        width: Of the canvas, in pixels.
        height: Of the canvas, in pixels.
        window: Left, top, right, bottom of the part, in the photo.
        target: Left, top, right, bottom of the same part on the canvas; it may reach beyond.
        subject_px: Longer side of the subject on the canvas; 0 where nobody needs to know.
        notes: What is different from what may be expected.
    """

    width: int
    height: int
    window: Box
    target: Box
    subject_px: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def is_window(self) -> bool:
        """Whether the canvas is just this part of the photo."""
        return self.target == (0, 0, self.width, self.height) and self.resizes_to == self.window_size

    @property
    def window_size(self) -> tuple[int, int]:
        """Width and height of the part in the photo."""
        return self.window[2] - self.window[0], self.window[3] - self.window[1]

    @property
    def resizes_to(self) -> tuple[int, int]:
        """Width and height of the part on the canvas."""
        return self.target[2] - self.target[0], self.target[3] - self.target[1]

    @property
    def shrinks(self) -> bool:
        """Whether the part is smaller on the canvas, or as large."""
        return self.resizes_to[0] <= self.window_size[0] and self.resizes_to[1] <= self.window_size[1]


@dataclass(frozen=True, slots=True)
class _Canvas:
    """The canvas: its size, the part of the photo that it would show by itself, and that part's scale."""

    width: int
    height: int
    frame: Box
    unit: float
    is_given: bool


def has_canvas(options: PictureSettings) -> bool:
    """Whether the result may differ from a part of the photo as it is."""
    placed = (options.size, options.scale, options.position, options.outline)
    return any(value is not None for value in placed) or options.margin != "0" or options.shadow != "none"


def plan_layout(alpha: np.ndarray, options: PictureSettings, limits: InputLimits) -> Layout:
    """Decide which part of the photo goes where.

    Args:
        alpha: (H, W) float32 in [0, 1], of the whole photo.
        options: Crop and canvas.
        limits: How large a canvas may be.

    Returns:
        The layout; without canvas and crop the photo itself.

    Raises:
        ImageTooLargeError: The canvas is above a limit.
        OptionError: The margin leaves no room on it.
    """
    height, width = alpha.shape
    if not has_canvas(options):
        box, notes = crop_box(alpha, options.crop_margin) if options.crop else ((0, 0, width, height), ())
        size = (box[2] - box[0], box[3] - box[1])
        return Layout(*size, box, (0, 0, *size), notes=notes)
    subject = find_subject_box(alpha)
    margin = parse_sides(options.margin)
    longer = max(subject[2] - subject[0], subject[3] - subject[1])
    spread = _spread(subject, reach(options), longer, (width, height))
    canvas = _canvas(alpha, subject, margin, spread, options)
    if canvas.width > width or canvas.height > height:
        check_size(canvas.width, canvas.height, limits)
    room = margin if canvas.is_given or not options.crop else parse_sides("0")
    borders = room.pixels(canvas.width, canvas.height)
    if min(room_px(Size(canvas.width, canvas.height), room)) < 1:
        raise OptionError(
            got=f"margin = {options.margin!r} leaves no room on {canvas.width} x {canvas.height} pixels",
            allowed="opposite margins of less than the canvas's side together",
            fix="choose a smaller margin",
        )
    share = parse_scale(options.scale) if options.scale else None
    position = parse_position(options.position) if options.position else None
    if options.position is None and (canvas.is_given or share):
        position = (0.5, 0.5)
    box = subject if position or share else canvas.frame
    around = spread if box == subject else (0.0, 0.0, 0.0, 0.0)
    scale = _scale(box, canvas, borders, around, share, options)
    if position is None:
        position = _own_place(box, canvas, scale) if share else (0.5, 0.5)
    left, top = (_start(axis, box, canvas, borders, around, position[axis], scale) for axis in (0, 1))
    pad = math.ceil(_FAINT_EDGE * longer) + 2 if box == subject else 0
    return _clip(canvas, box, pad, scale, (left, top), longer, (width, height))


def _spread(subject: Box, shares: Borders, longer_px: int, photo: tuple[int, int]) -> Borders:
    """Return how far shadow and outline reach, in pixels of the photo; nowhere where the photo cuts the subject off."""
    cut = (subject[0] == 0, subject[1] == 0, subject[2] == photo[0], subject[3] == photo[1])
    left, top, right, bottom = (0.0 if is_cut else share * longer_px for is_cut, share in zip(cut, shares, strict=True))
    return left, top, right, bottom


def _canvas(alpha: np.ndarray, subject: Box, margin: Sides, spread: Borders, options: PictureSettings) -> _Canvas:
    """Settle the canvas's size."""
    size = Size() if options.size is None else parse_size(options.size, options.dpi)
    frame: Box = (0, 0, alpha.shape[1], alpha.shape[0])
    if options.crop:
        frame, _ = crop_box(alpha, options.crop_margin)
    if size.width:
        return _Canvas(size.width, size.height, frame, 1.0, True)
    if options.crop and (margin.any or any(spread)):
        longer = max(subject[2] - subject[0], subject[3] - subject[1])
        left, top, right, bottom = (
            max(round(side), math.ceil(room)) for side, room in zip(margin.pixels(longer, longer), spread, strict=True)
        )
        needed = (subject[0] - left, subject[1] - top, subject[2] + right, subject[3] + bottom)
        frame = needed if margin.any else union(frame, needed)
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    unit = min(1.0, math.sqrt(size.most_px / (width * height))) if size.most_px else 1.0
    if unit < 1:
        return _Canvas(max(1, int(width * unit)), max(1, int(height * unit)), frame, unit, False)
    return _Canvas(width, height, frame, 1.0, False)


def _scale(
    box: Box, canvas: _Canvas, borders: Borders, spread: Borders, share: float | None, options: PictureSettings
) -> float:
    """Decide how many pixels of the canvas a pixel of the photo becomes."""
    shares, rooms, fitting = [], [], []
    for axis, side in ((0, canvas.width), (1, canvas.height)):
        length, (before, after) = box[axis + 2] - box[axis], (borders[axis], borders[axis + 2])
        rooms.append((side - before - after) / length)
        shares.append(side / length)
        # A margin is room for the shadow as well; where it is too narrow, the subject becomes smaller.
        fitting += [
            rooms[-1],
            side / (spread[axis] + length + spread[axis + 2]),
            (side - before) / (length + spread[axis + 2]),
            (side - after) / (spread[axis] + length),
        ]
    if share:
        return min(_MOST_ENLARGEMENT, share * min(shares), *fitting)
    if options.scale or not canvas.is_given or options.fit == "none":
        return canvas.unit
    return min(_MOST_ENLARGEMENT, min(fitting) if options.fit == "contain" else max(rooms))


def _start(
    axis: int, box: Box, canvas: _Canvas, borders: Borders, spread: Borders, share: float, scale: float
) -> float:
    """Decide where on the canvas the photo begins, across (axis 0) or down (axis 1)."""
    side, length = (canvas.width, canvas.height)[axis], (box[axis + 2] - box[axis]) * scale
    start = borders[axis] + share * (side - borders[axis] - borders[axis + 2] - length)
    low, high = spread[axis] * scale, side - length - spread[axis + 2] * scale
    if low <= high and (spread[axis] or spread[axis + 2]):
        start = min(max(start, low), high)
    return start - box[axis] * scale


def _own_place(box: Box, canvas: _Canvas, scale: float) -> tuple[float, float]:
    """Return the position that keeps the middle of a box where it is in the frame, as far as there is room."""
    shares = []
    for axis, side in ((0, canvas.width), (1, canvas.height)):
        low, high = canvas.frame[axis], canvas.frame[axis + 2]
        middle = ((box[axis] + box[axis + 2]) / 2 - low) / (high - low)
        length = (box[axis + 2] - box[axis]) * scale
        shares.append(min(1.0, max(0.0, (middle * side - length / 2) / max(side - length, 1e-6))))
    return shares[0], shares[1]


def _clip(
    canvas: _Canvas,
    box: Box,
    pad: int,
    scale: float,
    start: tuple[float, float],
    subject_px: int,
    photo: tuple[int, int],
) -> Layout:
    """Cut the part of the photo down to what the canvas shows, so that nothing else is resized."""
    window, target = [0, 0, 0, 0], [0, 0, 0, 0]
    for axis, length in enumerate((canvas.width, canvas.height)):
        begin = round(start[axis]) if scale == 1 else start[axis]  # nothing is resized then
        first = max(0, box[axis] - pad, math.floor(-begin / scale) - 2)
        last = min(photo[axis], box[axis + 2] + pad, math.ceil((length - begin) / scale) + 2)
        window[axis], window[axis + 2] = first, max(last, first + 1)
        target[axis] = round(begin + window[axis] * scale)
        target[axis + 2] = max(target[axis] + 1, round(begin + window[axis + 2] * scale))
    notes: tuple[str, ...] = ()
    if scale > _NOTED_ENLARGEMENT:
        notes = (f"enlarged {scale:.2g} times: the photo has fewer pixels than the canvas",)
    return Layout(canvas.width, canvas.height, _box(window), _box(target), subject_px * scale, notes)


def _box(values: list[int]) -> Box:
    """Turn four numbers into a box."""
    return values[0], values[1], values[2], values[3]
