"""Checks a picture's announced size against the limits, before any pixel is decoded."""

from __future__ import annotations

from cutray.config import InputLimits
from cutray.errors import DecodeError, ImageTooLargeError

# A picture at the pixel limit with four channels of eight bits is the most memory a decoder may fill.
_BYTES_PER_ALLOWED_PIXEL = 4


def check_bytes(size: int, limits: InputLimits) -> None:
    """Refuse a file that has too many bytes.

    Args:
        size: The file's size in bytes.
        limits: What is allowed.

    Raises:
        ImageTooLargeError: The file is above ``limits.max_bytes``.
    """
    if size > limits.max_bytes:
        raise ImageTooLargeError(
            f"the file has {size:,} bytes",
            f"at most {limits.max_bytes:,} bytes",
            "send a smaller or recompressed picture",
        )


def check_size(width: int, height: int, limits: InputLimits, bytes_per_pixel: float = 1) -> None:
    """Refuse a picture whose header announces too much.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        limits: What is allowed.
        bytes_per_pixel: Bytes of one decoded pixel, for more than 8 bits a sample.

    Raises:
        DecodeError: A side is zero or negative.
        ImageTooLargeError: A side, the pixel count or the decoded size is above its limit.
    """
    if width < 1 or height < 1:
        raise DecodeError(f"the picture measures {width} x {height} pixels", "at least 1 x 1", "check the file")
    fix = "make the picture smaller, or raise the limit"
    if max(width, height) > limits.max_side_px:
        raise ImageTooLargeError(
            f"the picture measures {width} x {height} pixels", f"sides of at most {limits.max_side_px} pixels", fix
        )
    allowed_px = limits.max_megapixels * 1e6
    if width * height > allowed_px:
        raise ImageTooLargeError(
            f"the picture has {width * height / 1e6:.1f} million pixels",
            f"at most {limits.max_megapixels:g} million pixels",
            fix,
        )
    decoded_bytes = width * height * bytes_per_pixel
    if decoded_bytes > allowed_px * _BYTES_PER_ALLOWED_PIXEL:
        raise ImageTooLargeError(
            f"the decoded picture needs {decoded_bytes / 1e6:.0f} million bytes",
            f"at most {allowed_px * _BYTES_PER_ALLOWED_PIXEL / 1e6:.0f} million bytes",
            "make the picture smaller, or save it with 8 bits per channel",
        )
