"""Turns Pillow images of every mode, and numbers of every depth, into plain arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cutray.errors import DecodeError

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
ColorMode = Literal["L", "RGB", "CMYK", "LAB"]

_STRIP_BYTES = 4 << 20


@dataclass(slots=True)
class RawImage:
    """Samples as they are stored, before colour conversion.

    Attributes:
        samples: (H, W) for mode L, else (H, W, C), uint8.
        mode: Colour space of the samples.
        alpha: (H, W) uint8, straight, or None.
        uint16: (H, W, 3) uint16 RGB or grey, or None; None for pictures of 8 bits.
        notes: What was changed, for the caller's report.
    """

    samples: U8
    mode: ColorMode
    alpha: U8 | None = None
    uint16: U16 | None = None
    notes: list[str] = field(default_factory=list)


def to_uint8(values: U16) -> U8:
    """Scale 0..65535 to 0..255, rounded to nearest.

    Args:
        values: (H, W) or (H, W, C) uint16.

    Returns:
        uint8 array of the same shape.
    """
    return cv2.convertScaleAbs(np.ascontiguousarray(values), alpha=1 / 257).reshape(values.shape)  # type: ignore[return-value]


def raw_from_uint16(values: U16, alpha: U8 | None = None, *, keep_uint16: bool) -> RawImage:
    """Build a raw image from 16-bit grey or RGB samples.

    Args:
        values: (H, W) or (H, W, 3) uint16.
        alpha: (H, W) uint8 or None.
        keep_uint16: Whether the 16-bit samples are kept as well.

    Returns:
        An 8-bit raw image, with ``uint16`` set when asked for.
    """
    samples = to_uint8(values)
    kept = None
    if keep_uint16:
        kept = np.ascontiguousarray(values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2))
    mode: ColorMode = "L" if values.ndim == 2 else "RGB"
    return RawImage(samples, mode, alpha, kept, [] if keep_uint16 else ["16-bit reduced to 8"])


def raw_from_bgr(values: npt.NDArray[Any], *, keep_uint16: bool, grey: bool = False) -> RawImage:
    """Build a raw image from an array in OpenCV's channel order.

    Args:
        values: (H, W), (H, W, 3) BGR or (H, W, 4) BGRA with straight alpha; uint8 or uint16.
        keep_uint16: Whether 16-bit samples are kept as well.
        grey: Whether the colour channels are equal and one of them is enough.

    Returns:
        Grey or RGB samples with the alpha apart.
    """
    if values.dtype == np.uint16:
        raw = raw_from_bgr(to_uint8(values), keep_uint16=False, grey=grey)
        if keep_uint16:
            raw.uint16 = np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else _rgb(values)
        else:
            raw.notes.append("16-bit reduced to 8")
        return raw
    if values.ndim == 2:
        return RawImage(values, "L")
    alpha = np.ascontiguousarray(values[..., 3]) if values.shape[2] == 4 else None
    if grey:
        return RawImage(np.ascontiguousarray(values[..., 0]), "L", alpha)
    return RawImage(_rgb(values), "RGB", alpha)


def _rgb(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take RGB out of BGR or BGRA."""
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


def to_uint16(values: npt.NDArray[Any]) -> U16:
    """Scale integer or floating-point samples to 16 bits by a rule on their range.

    Floats within [0, 1] count as a fraction of white; anything else within [0, 255] as 8-bit and within
    [0, 65535] as 16-bit values.

    Args:
        values: Array of any shape and number type.

    Returns:
        uint16 array of the same shape.

    Raises:
        DecodeError: Values are negative, above 65535 or not finite.
    """
    if values.dtype == np.uint16:
        return values.astype(np.uint16, copy=False)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65_535):  # also false for NaN
        raise DecodeError(
            f"the samples range from {low:g} to {high:g}",
            "finite values in 0..1, 0..255 or 0..65535",
            "scale the picture to one of these ranges",
        )
    as_8_bit = 257.0 if high <= 255 else 1.0
    scale = 65_535.0 if values.dtype.kind == "f" and high <= 1 else as_8_bit
    wide: npt.NDArray[Any] = values.astype(np.float64 if values.itemsize > 4 else np.float32)
    wide *= scale
    scaled: U16 = np.rint(wide).astype(np.uint16)
    return scaled


def raw_from_pil(image: Image.Image, *, keep_uint16: bool = False) -> RawImage:
    """Take the samples out of a loaded Pillow image of any mode.

    Args:
        image: A loaded image; it is not changed.
        keep_uint16: Whether 16-bit samples are kept as well.

    Returns:
        Grey, RGB, CMYK or Lab samples, and straight alpha where the image has transparency.

    Raises:
        DecodeError: The mode is unknown or its values are out of range.
    """
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values = np.asarray(image)
        key = image.info.get("transparency")
        alpha = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return raw_from_uint16(to_uint16(native), alpha, keep_uint16=keep_uint16)
    if mode in ("CMYK", "LAB"):
        return RawImage(_channels(image, mode), mode)  # type: ignore[arg-type]
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data:
        return _with_alpha(image)
    if mode in ("1", "L"):
        return RawImage(_channels(image, "L"), "L")
    try:
        return RawImage(_channels(image, "RGB"), "RGB")
    except ValueError as error:
        raise DecodeError(
            f"pictures of mode {mode} are not understood", "RGB, grey, CMYK or Lab", "convert it"
        ) from error


def _channels(image: Image.Image, mode: str) -> U8:
    """Copy an image into an array in a mode of one, three or four 8-bit channels."""
    width, height = image.size
    channels = Image.getmodebands(mode)
    out = np.empty((height, width) if channels == 1 else (height, width, channels), np.uint8)
    for top, strip in _strips(image):
        out[top : top + strip.height] = np.asarray(strip if strip.mode == mode else strip.convert(mode))
    return out


def _with_alpha(image: Image.Image) -> RawImage:
    """Copy an image with transparency into RGB and straight alpha."""
    width, height = image.size
    colors, alpha = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
    for top, strip in _strips(image):
        straight = strip.convert("LA") if strip.mode == "La" else strip
        rgba = np.asarray(straight if straight.mode == "RGBA" else straight.convert("RGBA"))
        colors[top : top + strip.height] = rgba[..., :3]
        alpha[top : top + strip.height] = rgba[..., 3]
    return RawImage(colors, "RGB", alpha)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield top rows and strips: Pillow copies what it converts and hands out, and strips keep that small."""
    width, height = image.size
    rows = max(1, _STRIP_BYTES // (4 * width))
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(height, top + rows)))
