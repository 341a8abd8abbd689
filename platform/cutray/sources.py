"""What a photo comes as, and what is settled before any work is done: its pixels, and the format of its result."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from cutray.config import RemoverSettings
from cutray.errors import InputError, OptionError
from cutray.imaging.compose import compose
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import parse_format
from cutray.imaging.files import read_bytes

Source = str | PathLike[str] | bytes | Image.Image | np.ndarray


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo on its way through the chain.

    Attributes:
        image: The decoded photo.
        flattened: (H, W, 3) uint8, its pixels on white where it is transparent: what the network and the matting see.
    """

    image: DecodedImage
    flattened: np.ndarray


def decode_source(source: Source, settings: RemoverSettings) -> Photo:
    """Bring any kind of source to pixels.

    Args:
        source: Path, encoded bytes, Pillow image, or (H, W[, 1|3|4]) array of sRGB samples.
        settings: Limits, bit depth and colour profile.

    Returns:
        The photo, upright, in sRGB or its own profile.

    Raises:
        InputError: The photo cannot be used.
    """
    uint16 = settings.bit_depth == 16
    keep = settings.color_profile == "keep"
    if isinstance(source, str | PathLike):
        source = read_bytes(source, settings)
    if isinstance(source, bytes | bytearray | memoryview):
        image = decode_image(bytes(source), settings, keep_profile=keep, keep_uint16=uint16)
    elif isinstance(source, Image.Image):
        image = from_pil(source, keep_profile=keep, keep_uint16=uint16)
    elif isinstance(source, np.ndarray):
        image = from_array(source, keep_uint16=uint16)
    else:
        raise InputError(
            got=f"a source of type {type(source).__name__}",
            allowed="a path, encoded bytes, a Pillow image or a numpy array",
            fix="convert it to one of these",
        )
    return Photo(image, flatten_on_white(image))


def flatten_on_white(image: DecodedImage) -> np.ndarray:
    """Lay a transparent photo on white; the colours below transparency may be anything.

    Args:
        image: The decoded photo.

    Returns:
        (H, W, 3) uint8, sRGB; the photo's own pixels if it is opaque.
    """
    if image.alpha is None:
        return image.pixels
    return compose(image.pixels, image.alpha.astype(np.float32) / 255.0, (255, 255, 255))


def output_format(settings: RemoverSettings, destination: str | PathLike[str] | None) -> str:
    """Settle the file format before any work is done, so that a wrong name costs nothing.

    Args:
        settings: The format that was asked for, and whether the result can be opaque.
        destination: File to write, whose ending counts when the format is auto, or None.

    Returns:
        PNG, WEBP, AVIF, JPEG or TIFF.

    Raises:
        OptionError: The ending names no format, or the format cannot hold a transparent cutout.
    """
    named = settings.format
    name = (
        parse_format(named)
        if named != "auto"
        else parse_format(Path(destination))
        if destination is not None
        else "PNG"
    )
    if name == "JPEG" and settings.background is None and not settings.only_mask:
        raise OptionError(
            got="a cutout as JPEG, which cannot be transparent",
            allowed="PNG, WebP, AVIF or TIFF, or JPEG on a background",
            fix="choose another ending, or add a background such as white",
        )
    return name
