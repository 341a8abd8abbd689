"""Opens each format: header first, limits next, pixels last."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cutray.config import InputLimits
from cutray.errors import DecodeError, MissingExtraError
from cutray.imaging.image import StoredFrame
from cutray.imaging.jpeg_header import read_jpeg_header
from cutray.imaging.limits import check_size
from cutray.imaging.orientation import read_orientation
from cutray.imaging.png_header import PngHeader, read_png_header
from cutray.imaging.raw_image import U16, RawImage, raw_from_bgr, raw_from_pil, to_uint16
from cutray.imaging.tiff_header import read_tiff_header

# Pillow's plugins are called directly instead of through Image.open: the format is known by then, our own
# limits were checked, and Image.open's limit is a process-wide setting that is not ours to change.
_Plugin = Callable[[io.BytesIO], ImageFile.ImageFile]
_FAST_JPEG = frozenset({0xC0, 0xC1, 0xC2})
_GREY_PNG = frozenset({0, 4})


def _read_jpeg(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:  # noqa: ARG001 (a JPEG has 8 bits)
    """Decode a JPEG, by OpenCV where it gives the same pixels in half the time."""
    header = read_jpeg_header(data, limits)
    check_size(header.width, header.height, limits)
    raw = None
    # OpenCV fills what is missing with grey; Pillow refuses it. So only complete files take the fast path.
    if header.complete and header.coding in _FAST_JPEG and header.bits == 8 and header.components in (1, 3):
        color = cv2.IMREAD_GRAYSCALE if header.components == 1 else cv2.IMREAD_COLOR_RGB
        pixels = cv2.imdecode(np.frombuffer(header.stream, np.uint8), color | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None and pixels.shape[:2] == (header.height, header.width):
            raw = RawImage(pixels, "L" if header.components == 1 else "RGB")  # type: ignore[arg-type]
    if raw is None:
        raw = raw_from_pil(_load(JpegImagePlugin.JpegImageFile, header.stream, limits))
    return StoredFrame(raw, header.icc, read_orientation(header.exif), header.dpi)


def _read_png(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:
    """Decode a PNG or the default picture of an animated one."""
    header = read_png_header(data, limits)
    check_size(header.width, header.height, limits, header.channels * header.bits / 8)
    raw = _png_raster(header, keep_uint16)
    source = StoredFrame(raw, header.icc, read_orientation(header.exif), header.dpi)
    if header.broken_icc:
        source.notes.append("broken ICC profile ignored")
    if header.frames > 1:
        source.notes.append(f"first of {header.frames} frames")
    return source


def _png_raster(header: PngHeader, keep_uint16: bool) -> RawImage:
    """Decode a PNG's pixels by OpenCV, which refuses missing rows and keeps 16 bits; Pillow does neither."""
    values = cv2.imdecode(np.frombuffer(header.stream, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.shape[:2] != (header.height, header.width):
        raise DecodeError("the PNG's pixels cannot be decoded", "a complete PNG", "get the original file again")
    raw = raw_from_bgr(values, keep_uint16=keep_uint16, grey=header.color_type in _GREY_PNG)
    if header.key is not None:
        colors = values if values.ndim == 3 else values[..., None]
        # Samples of fewer than 8 bits were scaled to 8, and so must be the colour to compare with.
        scale = 255 // ((1 << header.bits) - 1) if header.bits < 8 else 1
        hidden = (colors == np.array(header.key[::-1]) * scale).all(axis=2)
        raw.alpha = np.where(hidden, 0, 255).astype(np.uint8)
    return raw


def _read_tiff(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:
    """Decode the first page of a TIFF."""
    header = read_tiff_header(data, limits)
    notes = ["first of several pages"] if header.more_pages else []
    if not header.rgb_uint16:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        check_size(*image.size, limits)
        image.load()  # turns it upright as well
        return StoredFrame(raw_from_pil(image, keep_uint16=keep_uint16), header.icc, 1, header.dpi, notes)
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.shape[2] != header.samples:
        raise DecodeError("the TIFF's pixels cannot be decoded", "a baseline TIFF", "export it as PNG")
    samples = to_uint16(values)
    if header.premultiplied and header.samples == 4:
        samples = _straight(samples)
    return StoredFrame(raw_from_bgr(samples, keep_uint16=keep_uint16), header.icc, 1, header.dpi, notes)


def _straight(samples: U16) -> U16:
    """Divide premultiplied colours by their alpha; fully transparent pixels become black."""
    alpha = samples[..., 3:].astype(np.float32)
    colors = samples[..., :3] * (np.float32(65_535) / np.maximum(alpha, 1))
    return np.concatenate((np.minimum(np.rint(colors), 65_535).astype(np.uint16), samples[..., 3:]), axis=2)


def _pillow_reader(
    plugin: _Plugin, *, counts_frames: bool = False
) -> Callable[[bytes, InputLimits, bool], StoredFrame]:
    """Build a reader for a format that needs no special care."""

    def read(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:
        image = _load(plugin, data, limits)
        frames = int(getattr(image, "n_frames", 1)) if counts_frames else 1
        notes = [f"first of {frames} frames"] if frames > 1 else []
        raw = raw_from_pil(image, keep_uint16=keep_uint16)
        return StoredFrame(
            raw, image.info.get("icc_profile"), read_orientation(image.info.get("exif")), image.info.get("dpi"), notes
        )

    return read


def _read_gif(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:
    """Decode the first frame of a GIF; counting the frames would mean to read them all."""
    source = _pillow_reader(GifImagePlugin.GifImageFile)(data, limits, keep_uint16)
    with contextlib.suppress(
        OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error
    ):  # a damaged second frame is of no interest
        if GifImagePlugin.GifImageFile(io.BytesIO(data)).is_animated:
            source.notes.append("first of several frames")
    return source


def _read_webp(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:
    """Decode a WebP: still ones by OpenCV, since Pillow's animation decoder needs twice the memory."""
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    check_size(*image.size, limits)
    icc, turn = image.info.get("icc_profile"), read_orientation(image.info.get("exif"))
    if image.n_frames > 1:
        image.load()
        return StoredFrame(raw_from_pil(image), icc, turn, None, [f"first of {image.n_frames} frames"])
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.shape[:2] != image.size[::-1]:
        image.load()
        return StoredFrame(raw_from_pil(image), icc, turn)
    return StoredFrame(raw_from_bgr(values, keep_uint16=keep_uint16), icc, turn)


def _read_heic(data: bytes, limits: InputLimits, keep_uint16: bool) -> StoredFrame:
    """Decode a HEIC through the optional package; it turns the picture upright itself."""
    try:
        from pillow_heif import as_plugin
    except ImportError as error:
        raise MissingExtraError(
            "HEIC pictures need a package that is not installed", "", 'run: pip install "cutray[heic]"'
        ) from error
    source: StoredFrame = _pillow_reader(as_plugin.HeifImageFile)(data, limits, keep_uint16)
    return source


def _load(plugin: _Plugin, data: bytes, limits: InputLimits) -> ImageFile.ImageFile:
    """Read a header, check it, and only then decode."""
    image = plugin(io.BytesIO(data))
    check_size(*image.size, limits)
    image.load()
    return image


READERS: Mapping[str, Callable[[bytes, InputLimits, bool], StoredFrame]] = MappingProxyType(
    {
        "JPEG": _read_jpeg,
        "PNG": _read_png,
        "TIFF": _read_tiff,
        "GIF": _read_gif,
        "HEIC": _read_heic,
        "WEBP": _read_webp,
        "AVIF": _pillow_reader(AvifImagePlugin.AvifImageFile, counts_frames=True),
        "BMP": _pillow_reader(BmpImagePlugin.BmpImageFile),
    }
)
