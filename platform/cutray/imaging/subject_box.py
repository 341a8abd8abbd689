"""Where the subject is in the photo, and the box of any mask."""

from __future__ import annotations

import numpy as np

from cutray.config.lengths import parse_sides

Box = tuple[int, int, int, int]

# What is fainter than this does not count.
_VISIBLE = 0.02


def mask_box(mask: np.ndarray) -> Box | None:
    """Find the smallest rectangle that holds all of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        left, top, right, bottom in pixels, right and bottom exclusive; None for an empty mask.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def union(one: Box, other: Box) -> Box:
    """Return the smallest box that holds both."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def find_subject_box(alpha: np.ndarray) -> Box:
    """Find the rectangle that holds the subject.

    Args:
        alpha: (H, W) float32 in [0, 1].

    Returns:
        left, top, right, bottom in pixels, right and bottom exclusive; the whole picture if nothing is visible.
    """
    height, width = alpha.shape
    return mask_box(alpha > _VISIBLE) or (0, 0, width, height)


def crop_box(alpha: np.ndarray, margin: str) -> tuple[Box, tuple[str, ...]]:
    """Find the part of the photo that a crop leaves, and note a margin that the photo is too small for.

    Args:
        alpha: (H, W) float32 in [0, 1].
        margin: Room on each side, in pixels or percent of the longer side of the subject's box.

    Returns:
        The box, inside the photo, and the note, if there is one.
    """
    height, width = alpha.shape
    bare = find_subject_box(alpha)
    longer = max(bare[2] - bare[0], bare[3] - bare[1])
    room = tuple(round(side) for side in parse_sides(margin).pixels(longer, longer))
    box = (
        max(0, bare[0] - room[0]),
        max(0, bare[1] - room[1]),
        min(width, bare[2] + room[2]),
        min(height, bare[3] + room[3]),
    )
    got = (bare[0] - box[0], bare[1] - box[1], box[2] - bare[2], box[3] - bare[3])
    if bare == (0, 0, width, height) or got == room:
        return box, ()
    sides = zip(("left", "top", "right", "bottom"), got, room, strict=True)
    short = ", ".join(f"{name} {side} px" for name, side, wanted in sides if side < wanted)
    wanted = " ".join(str(side) for side in (room[:1] if len(set(room)) == 1 else (*room[1:], room[0])))
    return box, (f"crop_margin of {wanted} px ends at the photo's border: {short}",)
