"""Pictures inside a report: inline SVG and data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cutray.config import InputLimits
from cutray.errors import CutrayError, DatasetError
from cutray.imaging.decode import decode_image
from cutray.imaging.files import read_bytes

SERIES_COLORS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5")
_JPEG_QUALITY = 80


def photo_uri(path: Path, size_px: tuple[int, int], limits: InputLimits) -> str:
    """Shrink a photo for the page.

    Args:
        path: A picture file.
        size_px: Width and height, in pixels.
        limits: What the picture may cost.

    Returns:
        A ``data:`` URI.

    Raises:
        DatasetError: The file is not a readable picture.
    """
    try:
        picture = decode_image(read_bytes(path, limits), limits)
    except CutrayError as error:
        raise DatasetError(got=f"photo {path} cannot be read ({error})", fix="replace the file") from error
    return _data_uri(Image.fromarray(picture.pixels).resize(size_px, Image.Resampling.BOX))


def alpha_uri(alpha: NDArray[np.float32]) -> str:
    """Show an alpha as grey values.

    Args:
        alpha: (H,W) float32 in [0,1].

    Returns:
        A ``data:`` URI.
    """
    return _data_uri(Image.fromarray(np.rint(alpha * 255).astype(np.uint8)))


def difference_uri(alpha: NDArray[np.float32], truth: NDArray[np.float32]) -> str:
    """Show where an alpha is too high (red) and too low (blue), white where it is right.

    Args:
        alpha: (H,W) float32 in [0,1].
        truth: (H,W) float32 in [0,1].

    Returns:
        A ``data:`` URI.
    """
    surplus = alpha - truth
    too_high, too_low = np.clip(surplus, 0, 1), np.clip(-surplus, 0, 1)
    colors = 1 - np.stack([too_low, too_high + too_low, too_high], axis=-1)
    return _data_uri(Image.fromarray(np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)))


def shrink_alpha(alpha: NDArray[np.float32], height_px: int) -> NDArray[np.float32]:
    """Shrink a mask to a height by averaging, never enlarging it.

    Args:
        alpha: (H,W) float32 in [0,1].
        height_px: Largest height, in pixels.

    Returns:
        (H,W) float32 in [0,1].
    """
    height = min(height_px, alpha.shape[0])
    width = max(1, round(alpha.shape[1] * height / alpha.shape[0]))
    return resize_alpha(alpha, (width, height))


def resize_alpha(alpha: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Resize an alpha by averaging.

    Args:
        alpha: (H,W) float32 in [0,1].
        size_px: Width and height, in pixels.

    Returns:
        (H,W) float32 in [0,1].
    """
    resized = np.asarray(Image.fromarray(alpha).resize(size_px, Image.Resampling.BOX), np.float32)
    return np.clip(resized, 0, 1)


def histogram_svg(series: Mapping[str, NDArray[np.float64]], label: str, bins: int = 20) -> str:
    """Draw how the values of each series spread over their common range.

    Args:
        series: Name to values; NaN is left out.
        label: What the values are.
        bins: Number of bars per series.

    Returns:
        An ``<svg>`` element; a paragraph when there is no value at all.
    """
    known = {name: values[~np.isnan(values)] for name, values in series.items()}
    everything = np.concatenate(list(known.values()) or [np.empty(0)])
    if everything.size == 0:
        return f"<p>No values of {html.escape(label)}.</p>"
    low, high = float(min(everything.min(), 0.0)), float(max(everything.max(), 1e-6))
    counts = {name: np.histogram(values, bins, (low, high))[0] for name, values in known.items()}
    tallest = max(int(count.max()) for count in counts.values())
    width, height, slot = 640, 180, 640 / bins
    bar = slot * 0.9 / len(counts)
    parts = [f'<svg viewBox="0 -8 {width} {height + 40}" role="img" aria-label="Histogram of {html.escape(label)}">']
    for index, (name, count) in enumerate(counts.items()):
        color = SERIES_COLORS[index % len(SERIES_COLORS)]
        for place, amount in enumerate(count):
            tall = height * int(amount) / tallest
            x = place * slot + index * bar
            title = f"{html.escape(name)}: {amount} from {low + (high - low) * place / bins:.3g}"
            parts.append(
                f'<rect x="{x:.1f}" y="{height - tall:.1f}" width="{bar:.1f}" height="{tall:.1f}" fill="{color}">'
                f"<title>{title}</title></rect>"
            )
    parts.append(f'<text x="0" y="{height + 18}">{low:.3g}</text>')
    parts.append(f'<text x="{width / 2}" y="{height + 18}" text-anchor="middle">{html.escape(label)}</text>')
    parts.append(f'<text x="{width}" y="{height + 18}" text-anchor="end">{high:.3g}</text></svg>')
    return "".join(parts)


def _data_uri(picture: Image.Image) -> str:
    """Encode a picture as JPEG inside a URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
