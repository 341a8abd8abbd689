"""Decode a picture of any allowed format to upright sRGB pixels; refuse what is hostile or damaged."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutray.config import InputLimits
from cutray.errors import CutrayError, DecodeError, ImageTooLargeError, ShapeMismatchError
from cutray.imaging.detect_format import detect_format
from cutray.imaging.image import DecodedImage, ReadOptions, StoredFrame, to_decoded
from cutray.imaging.limits import check_bytes
from cutray.imaging.raw_image import RawImage, raw_from_pil, raw_from_uint16, to_uint8, to_uint16
from cutray.imaging.readers import pil_metadata, read_frame

__all__ = ["DecodedImage", "decode_image", "from_array", "from_pil"]

_DEFAULT_LIMITS = InputLimits()


def decode_image(
    data: bytes,
    limits: InputLimits = _DEFAULT_LIMITS,
    *,
    keep_profile: bool = False,
    keep_uint16: bool = False,
    keep_metadata: bool = False,
    allow_damaged: bool = False,
) -> DecodedImage:
    """Decode the first frame of a picture.

    The format is told by the content; size and cost are checked on the header. The orientation is applied,
    colours are brought to sRGB, samples of 16 bits are scaled, never clipped. A file whose end is missing is
    accepted as long as it lacks no more than a few rows; ``notes`` says what was mended.

    Args:
        data: The whole file.
        limits: What the picture may cost.
        keep_profile: Leave RGB pixels in their own colour space and return its profile.
        keep_uint16: Return samples of more than 8 bits as well.
        keep_metadata: Return the metadata that may be published.
        allow_damaged: Accept a picture of which more is missing; the missing rows become transparent.

    Returns:
        The picture.

    Raises:
        DecodeError: The bytes are no picture, or one of which more than a few rows are missing or damaged.
        UnsupportedFormatError: The type of file is never opened.
        ImageTooLargeError: A limit is exceeded.
        MissingExtraError: The format needs a package that is not installed.
    """
    check_bytes(len(data), limits)
    name = detect_format(data)
    options = ReadOptions(limits, keep_profile, keep_uint16, keep_metadata, allow_damaged)
    with _typed_errors(name):
        return to_decoded(read_frame(name, data, options), name, options)


def from_pil(
    image: Image.Image, *, keep_profile: bool = False, keep_uint16: bool = False, keep_metadata: bool = False
) -> DecodedImage:
    """Take over a Pillow image with the same rules as for files.

    Args:
        image: Image of any mode, possibly not loaded yet; pixels, mode and metadata stay as they are.
        keep_profile: Leave RGB pixels in their own colour space and return its profile.
        keep_uint16: Return samples of more than 8 bits as well.
        keep_metadata: Return the metadata that may be published.

    Returns:
        The picture.

    Raises:
        DecodeError: The image cannot be loaded or its values have no meaning.
    """
    name = str(image.format or "ARRAY")
    options = ReadOptions(keep_profile=keep_profile, keep_uint16=keep_uint16, keep_metadata=keep_metadata)
    with _typed_errors(name):
        image.load()
        icc, dpi = image.info.get("icc_profile"), image.info.get("dpi")
        frame = StoredFrame(
            raw_from_pil(image, keep_uint16=keep_uint16),
            icc if isinstance(icc, bytes) else None,
            pil_metadata(image, complete=keep_metadata),
            _orientation(image),
            # (1, 1) is what Pillow says of a TIFF without a resolution.
            dpi=dpi if isinstance(dpi, tuple) and len(dpi) == 2 and dpi != (1, 1) else None,
        )
        return to_decoded(frame, name, options)


def from_array(array: npt.ArrayLike, *, keep_uint16: bool = False) -> DecodedImage:
    """Take over an array of sRGB samples.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with straight alpha; uint8, uint16, bool, or
            floating point in [0, 1]. An array of 8-bit RGB is not copied.
        keep_uint16: Return samples of more than 8 bits as well.

    Returns:
        The picture, of format ARRAY.

    Raises:
        ShapeMismatchError: The array has another shape or is empty.
        DecodeError: The array has another number type, or values that are not finite or outside [0, 1].
    """
    try:
        values = np.asarray(array)
    except (ValueError, TypeError) as error:
        raise DecodeError("the value is not an array", "an array of numbers", "pass one array") from error
    if values.ndim not in (2, 3) or 0 in values.shape or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise ShapeMismatchError(
            f"an array of shape {values.shape}", "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)", "transpose or reshape it"
        )
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    values = _integer_samples(values)
    alpha = None
    if values.ndim == 3 and values.shape[2] == 4:
        values, alpha = values[..., :3], np.ascontiguousarray(values[..., 3])
    if values.dtype == np.uint16:
        alpha_8 = None if alpha is None else to_uint8(alpha)
        return to_decoded(
            StoredFrame(raw_from_uint16(values, alpha_8, keep_uint16=keep_uint16)), "ARRAY", ReadOptions()
        )
    raw = RawImage(np.ascontiguousarray(values), "L" if values.ndim == 2 else "RGB", alpha)
    return to_decoded(StoredFrame(raw), "ARRAY", ReadOptions())


def _integer_samples(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring an array of an allowed number type to uint8 or uint16 in native byte order."""
    if values.dtype == np.uint8 or values.dtype == np.uint16:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind != "f":
        raise DecodeError(
            f"an array of {values.dtype}", "uint8, uint16, bool, or floating point in 0..1", "convert it with astype"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise DecodeError(
            f"floating-point samples from {low:g} to {high:g}", "finite values in 0..1", "divide by the white value"
        )
    return to_uint16(values)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF value 1 to 8 that Pillow has not applied yet."""
    try:
        value = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, struct.error):
        return 1
    return value if value in range(1, 9) else 1


@contextlib.contextmanager
def _typed_errors(name: str) -> Iterator[None]:
    """Let only errors of ours out of a decoder."""
    try:
        yield
    except CutrayError:
        raise
    except Exception as error:
        # The one broad except: damaged files make the decoders raise whatever they like, SyntaxError,
        # struct.error, EOFError, IndexError, cv2.error and MemoryError among them. All of it means the same.
        raise _translate(error, name) from error


def _translate(error: Exception, name: str) -> CutrayError:
    """Turn whatever a decoder raised into an error of ours."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return ImageTooLargeError(f"the {name} picture is far too large", "see the limits", "make it smaller")
    detail = str(error).strip().rstrip(".") or "no reason given"
    return DecodeError(
        f"the {name} picture cannot be decoded ({type(error).__name__}: {detail[:200]})",
        "a complete, undamaged picture",
        "get the original file again, or export it as PNG",
    )
