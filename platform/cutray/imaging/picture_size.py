"""Tells the size of a picture from its header, before anything is paid for its pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cutray.imaging.detect_format import detect_format

_PLUGINS: Mapping[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}


def read_size(data: bytes) -> tuple[int, int] | None:
    """Read width and height of an encoded picture; nothing is decoded and nothing is checked.

    Args:
        data: The whole file.

    Returns:
        Width and height as they are stored, in pixels; None where the header does not tell, as in damaged files and
        in HEIC.
    """
    try:
        name = detect_format(data)
        with _PLUGINS[name](io.BytesIO(data)) as picture:
            width, height = picture.size
    except Exception:  # what plugins raise on damaged headers is a long list; decoding tells what is wrong
        return None
    return width, height
