"""What a photo comes as, and what is settled before any work is done: its pixels, and the format of its result."""

from __future__ import annotations

import io
from dataclasses import dataclass
from os import PathLike
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from cutray.config import InputLimits, RemoverSettings
from cutray.errors import InputError, OptionError, OutputError
from cutray.hints import Hints, read_hints
from cutray.imaging.compose import compose
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import format_of_output
from cutray.imaging.files import read_bytes, write_atomically
from cutray.imaging.limits import check_bytes

_BLOCK_BYTES = 1 << 20


@runtime_checkable
class BinaryReader(Protocol):
    """An open binary file, or anything else that gives bytes."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most so many bytes; none at the end."""


@runtime_checkable
class BinaryWriter(Protocol):
    """An open binary file, or anything else that takes bytes."""

    def write(self, data: bytes, /) -> int | None:
        """Take bytes, and return how many were taken."""


Source = str | PathLike[str] | bytes | bytearray | memoryview | BinaryReader | Image.Image | np.ndarray
Destination = str | PathLike[str] | BinaryWriter


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo on its way through the chain.

    Attributes:
        image: The decoded photo.
        flattened: (H, W, 3) uint8, its pixels on white where it is transparent: what the matting sees.
        hints: What a person has said about it, or None.
    """

    image: DecodedImage
    flattened: np.ndarray
    hints: Hints | None = None

    @property
    def view(self) -> np.ndarray:
        """What the network sees, (h, w, 3) uint8: all of it, or the surroundings of a box."""
        return self.flattened if self.hints is None else self.hints.cut_view(self.flattened)


def decode_source(source: Source, settings: RemoverSettings, strokes: DecodedImage | None = None) -> Photo:
    """Bring any kind of source to pixels.

    Args:
        source: Path, encoded bytes, open binary file, Pillow image, or (H, W[, 1|3|4]) array of sRGB samples.
        settings: Limits, bit depth, colour profile and hints.
        strokes: A decoded picture of strokes that takes the place of the one in the settings.

    Returns:
        The photo, upright, in sRGB or its own profile.

    Raises:
        InputError: The photo or a hint cannot be used.
    """
    uint16 = settings.bit_depth == 16
    keep, keep_metadata = settings.color_profile == "keep", settings.metadata == "keep"
    if isinstance(source, str | PathLike):
        source = read_bytes(source, settings)
    elif isinstance(source, BinaryReader) and not isinstance(source, Image.Image | np.ndarray):
        source = _read_file(source, settings)
    if isinstance(source, bytes | bytearray | memoryview):
        image = decode_image(
            bytes(source),
            settings,
            keep_profile=keep,
            keep_uint16=uint16,
            keep_metadata=keep_metadata,
            allow_damaged=settings.allow_damaged,
        )
    elif isinstance(source, Image.Image):
        image = from_pil(source, keep_profile=keep, keep_uint16=uint16, keep_metadata=keep_metadata)
    elif isinstance(source, np.ndarray):
        image = from_array(source, keep_uint16=uint16)
    else:
        raise InputError(
            got=f"a source of type {type(source).__name__}",
            allowed="a path, encoded bytes, an open binary file, a Pillow image or a numpy array",
            fix="convert it to one of these",
        )
    height, width = image.pixels.shape[:2]
    hints = read_hints(settings, height, width, settings, strokes)
    return Photo(image, flatten_on_white(image), hints)


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


def output_format(settings: RemoverSettings, destination: Destination | None) -> str:
    """Settle the file format before any work is done, so that a wrong name costs nothing.

    Args:
        settings: The format that was asked for, and whether the result can be opaque.
        destination: File to write, whose ending counts when the format is auto, or None.

    Returns:
        PNG, WEBP, AVIF, JPEG or TIFF.

    Raises:
        OptionError: The ending names no format, the format cannot hold a transparent cutout, or the destination is
            nothing that bytes can be written to.
    """
    named = settings.format if settings.format != "auto" else _name_of(destination)
    name = "PNG" if named is None else format_of_output(named)
    if name == "JPEG" and settings.background is None and not settings.only_mask:
        raise OptionError(
            got="a cutout as JPEG, which cannot be transparent",
            allowed="PNG, WebP, AVIF or TIFF, or JPEG on a background",
            fix="choose another ending, or add a background such as white",
        )
    if isinstance(destination, str | PathLike) or destination is None:
        return name
    if isinstance(destination, io.TextIOBase) or not isinstance(destination, BinaryWriter):
        raise OptionError(
            got=f"a destination of type {type(destination).__name__}",
            allowed="a path or a file that is open for writing bytes",
            fix='open it with mode "wb"',
        )
    writable = getattr(destination, "writable", None)
    if callable(writable) and not writable():
        raise OptionError(got="a file that is open for reading only", fix='open it with mode "wb"')
    return name


def write_result(destination: Destination, data: bytes, *, overwrite: bool) -> None:
    """Write an encoded picture.

    Args:
        destination: A path, which is written atomically, or an open binary file, which stays open.
        data: The encoded picture.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: It cannot be written.
    """
    if isinstance(destination, str | PathLike):
        write_atomically(destination, data, overwrite=overwrite)
        return
    rest = memoryview(data)
    try:
        while rest:
            taken = destination.write(bytes(rest))
            rest = rest[len(rest) if taken is None else taken :]
        flush = getattr(destination, "flush", None)
        if callable(flush):
            flush()
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise OutputError(got=f"the result cannot be written: {error}", fix="check the file and its disk") from error


def _read_file(file: BinaryReader, limits: InputLimits) -> bytes:
    """Read an open file from where it stands to its end, as far as the limits allow.

    Raises:
        InputError: It gives no bytes, cannot be read, or has too many.
    """
    content = bytearray()
    try:
        while block := file.read(_BLOCK_BYTES):
            if not isinstance(block, bytes | bytearray | memoryview):
                raise InputError(got="a file that is open as text", allowed="bytes", fix='open it with mode "rb"')
            content += block
            check_bytes(len(content), limits)
    except UnicodeDecodeError as error:
        raise InputError(got="a file that is open as text", allowed="bytes", fix='open it with mode "rb"') from error
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise InputError(got=f"the file cannot be read: {error}", fix='open it with mode "rb"') from error
    return bytes(content)


def _name_of(destination: Destination | None) -> str | PathLike[str] | None:
    """Return the name whose ending may give a format; None for no destination and for files without such a name."""
    if destination is None or isinstance(destination, str | PathLike):
        return destination
    name = getattr(destination, "name", None)
    return name if isinstance(name, str) and "." in name.rpartition("/")[2] else None
