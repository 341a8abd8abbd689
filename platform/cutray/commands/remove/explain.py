"""What ``cutray remove --explain`` writes: which edge cases a photo has, where, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutray.remover import BackgroundRemover

_LOOKED_AT_PX = 640


def write_explanation(remover: BackgroundRemover, source: Path, destination: Path, *, overwrite: bool) -> None:
    """Draw the detected edge cases of a photo, with their scores and reasons.

    Args:
        remover: The remover whose network is asked.
        source: The photo.
        destination: Picture to write; its ending names the format.
        overwrite: Whether an existing file may be replaced.

    Raises:
        InputError: The photo cannot be used.
        OutputError: The picture cannot be written.
    """
    from cutray.imaging.decode import decode_image
    from cutray.imaging.encode import encode_image, parse_format
    from cutray.imaging.files import read_bytes, write_atomically
    from cutray.imaging.resize import resize_within
    from cutray.matting.detect import detect_edge_cases
    from cutray.matting.edge_map import draw_edge_map

    settings = remover.settings
    photo = decode_image(read_bytes(source, settings), settings, allow_damaged=settings.allow_damaged)
    pixels = photo.pixels
    small = resize_within(pixels, _LOOKED_AT_PX)
    (probs,) = remover.segmenter.segment([pixels])
    picture = draw_edge_map(small, detect_edge_cases(small, probs))
    write_atomically(destination, encode_image(picture, parse_format(destination)), overwrite=overwrite)
