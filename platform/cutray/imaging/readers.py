"""Open each format: header first, limits next, pixels last."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cutray.config import InputLimits
from cutray.errors import DecodeError, ImageTooLargeError, MissingExtraError, UnsupportedFormatError
from cutray.imaging.exif import read_exif_view
from cutray.imaging.image import ReadOptions, StoredFrame
from cutray.imaging.jpeg_header import JpegHeader, read_jpeg_header
from cutray.imaging.limits import check_size
from cutray.imaging.mend import count_few_rows, fill_missing_rows, mend_by_padding, mend_jpeg
from cutray.imaging.mend_gif import find_unwritten_rows, open_gif
from cutray.imaging.mend_png import rebuild_png
from cutray.imaging.metadata import StoredMetadata
from cutray.imaging.png_header import PngHeader, read_png_header
from cutray.imaging.png_text import unpack_raw_profile
from cutray.imaging.raw_image import U16, RawImage, raw_from_bgr, raw_from_pil, to_uint16
from cutray.imaging.tiff_header import read_tiff_header

# Pillow's plugins are called directly instead of through Image.open: the format is known by then, our own
# limits were checked, and Image.open's limit is a process-wide setting that is not ours to change.
_Plugin = Callable[[io.BytesIO], ImageFile.ImageFile]
_FAST_JPEG = frozenset({0xC0, 0xC1, 0xC2})
_GREY_PNG = frozenset({0, 4})
_IPTC_RESOURCE = 0x0404
_NO_DATA = 128  # a decoder's value for blocks of a JPEG that are not in the file
_PADDED = frozenset({"WEBP", "BMP", "TIFF", "AVIF"})

Reader = Callable[[bytes, ReadOptions], StoredFrame]


def read_frame(name: str, data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode the first frame of a picture; a file that ends too early is mended where that is possible.

    Args:
        name: The format, from ``detect_format``.
        data: The whole file.
        options: Limits and what to return.

    Returns:
        The frame as it is stored.

    Raises:
        CutrayError: The picture is refused.
        Exception: Whatever a decoder raises on a damaged file.
    """
    read = READERS[name]
    try:
        return read(data, options)
    except (ImageTooLargeError, UnsupportedFormatError, MissingExtraError):
        raise
    except Exception:
        if name not in _PADDED:
            raise
        mended = mend_by_padding(data, name, lambda longer: read(longer, options), allow_damaged=options.allow_damaged)
        if mended is None:
            raise
        return mended


def pil_metadata(image: Image.Image, *, complete: bool) -> StoredMetadata:
    """Return the metadata that a Pillow image carries.

    Args:
        image: The image.
        complete: Also rebuild EXIF that the image holds in another form than its bytes.
    """
    info = image.info
    exif = info.get("exif")
    if not isinstance(exif, bytes):
        exif = _text_profile(info, "exif") or _text_profile(info, "APP1")
    if exif is None and complete:
        exif = image.getexif().tobytes() or None
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    iptc = _text_profile(info, "iptc") or _text_profile(info, "8bim")
    photoshop = info.get("photoshop")
    if isinstance(photoshop, dict) and isinstance(photoshop.get(_IPTC_RESOURCE), bytes):
        iptc = photoshop[_IPTC_RESOURCE]
    return StoredMetadata(exif, xmp if isinstance(xmp, bytes) else None, iptc)


def _text_profile(info: Mapping[Any, Any], name: str) -> bytes | None:
    """Return a raw profile among the texts of a PNG that Pillow has opened."""
    text = info.get(f"Raw profile type {name}")
    found = unpack_raw_profile(name.encode(), text.encode("latin-1", "replace")) if isinstance(text, str) else None
    return found[1] if found else None


def _read_jpeg(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a JPEG, by OpenCV where it gives the same pixels in half the time."""
    header = read_jpeg_header(data, options.limits)
    check_size(header.width, header.height, options.limits)
    frame = None
    # OpenCV fills what is missing with grey and says so on standard error. So only complete files take the fast path.
    if header.complete and header.coding in _FAST_JPEG and header.bits == 8 and header.components in (1, 3):
        frame = _read_jpeg_fast(header)
    if frame is None or (frame.raw.samples[-1, -1] == _NO_DATA).all():
        # Without the end marker, or with a last pixel as it is where data are missing, the rows are counted.
        frame = mend_jpeg(header, lambda stream: _load_jpeg(stream, options), allow_damaged=options.allow_damaged)
    if header.skipped_bytes:
        frame.notes.append(f"{header.skipped_bytes} bytes between segments skipped")
    frame.icc, frame.metadata, frame.dpi = header.icc, header.metadata, header.dpi
    return frame


def _read_jpeg_fast(header: JpegHeader) -> StoredFrame | None:
    """Decode a JPEG by OpenCV."""
    color = cv2.IMREAD_GRAYSCALE if header.components == 1 else cv2.IMREAD_COLOR_RGB
    pixels = cv2.imdecode(np.frombuffer(header.stream, np.uint8), color | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        return None
    return StoredFrame(RawImage(pixels, "L" if header.components == 1 else "RGB"))  # type: ignore[arg-type]


def _load_jpeg(stream: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a JPEG by Pillow."""
    return StoredFrame(raw_from_pil(_load(JpegImagePlugin.JpegImageFile, stream, options.limits)))


def _read_png(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a PNG or the default picture of an animated one."""
    header = read_png_header(data, options.limits)
    check_size(header.width, header.height, options.limits, header.channels * header.bits / 8)
    intact = header.complete and header.bad_checksums <= {b"tRNS"}
    raw = _decode_png(header.stream, header, options) if intact else None
    if raw is not None:
        frame = StoredFrame(raw)
    else:
        stream, missing, notes = rebuild_png(header, allow_damaged=options.allow_damaged)
        raw = _decode_png(stream, header, options)
        if raw is None:
            raise DecodeError("the PNG's pixels cannot be decoded", "a complete PNG", "get the original file again")
        frame = StoredFrame(raw, notes=notes)
        fill_missing_rows(frame, missing, "PNG", allow_damaged=options.allow_damaged)
    frame.icc, frame.metadata, frame.dpi = header.icc, header.metadata, header.dpi
    if b"tRNS" in header.bad_checksums:
        frame.notes.append("damaged transparency ignored")
    if header.broken_icc:
        frame.notes.append("broken ICC profile ignored")
    if header.frames > 1:
        frame.notes.append(f"first of {header.frames} frames")
    return frame


def _decode_png(stream: bytes, header: PngHeader, options: ReadOptions) -> RawImage | None:
    """Decode a PNG's pixels by OpenCV, which refuses missing rows and keeps 16 bits; Pillow does neither."""
    values = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.shape[:2] != (header.height, header.width):
        return None
    raw = raw_from_bgr(values, keep_uint16=options.keep_uint16, grey=header.color_type in _GREY_PNG)
    if header.key is not None:
        colors = values if values.ndim == 3 else values[..., None]
        # Samples of fewer than 8 bits were scaled to 8, and so must be the colour to compare with.
        scale = 255 // ((1 << header.bits) - 1) if header.bits < 8 else 1
        hidden = (colors == np.array(header.key[::-1]) * scale).all(axis=2)
        raw.alpha = np.where(hidden, 0, 255).astype(np.uint8)
    return raw


def _read_tiff(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode the first page of a TIFF."""
    header = read_tiff_header(data, options.limits)
    metadata = StoredMetadata(data, header.xmp, header.iptc)  # a TIFF has the structure of an EXIF block
    notes = ["first of several pages"] if header.more_pages else []
    if not header.rgb_uint16:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        check_size(*image.size, options.limits)
        image.load()  # turns it upright as well
        raw = raw_from_pil(image, keep_uint16=options.keep_uint16)
        return StoredFrame(raw, header.icc, metadata, upright=True, dpi=header.dpi, notes=notes)
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.shape[2] != header.samples:
        raise DecodeError("the TIFF's pixels cannot be decoded", "a baseline TIFF", "export it as PNG")
    samples = to_uint16(values)
    if header.premultiplied and header.samples == 4:
        samples = _straight(samples)
    raw = raw_from_bgr(samples, keep_uint16=options.keep_uint16)
    upright = read_exif_view(data)[0] is not None  # OpenCV turns by the tag of the TIFF alone
    return StoredFrame(raw, header.icc, metadata, upright=upright, dpi=header.dpi, notes=notes)


def _straight(samples: U16) -> U16:
    """Divide premultiplied colours by their alpha; fully transparent pixels become black."""
    alpha = samples[..., 3:].astype(np.float32)
    colors = samples[..., :3] * (np.float32(65_535) / np.maximum(alpha, 1))
    return np.concatenate((np.minimum(np.rint(colors), 65_535).astype(np.uint16), samples[..., 3:]), axis=2)


def _read_by_pillow(plugin: _Plugin, data: bytes, options: ReadOptions) -> tuple[ImageFile.ImageFile, StoredFrame]:
    """Decode a format that needs no special care."""
    image = _load(plugin, data, options.limits)
    raw = raw_from_pil(image, keep_uint16=options.keep_uint16)
    metadata = pil_metadata(image, complete=False)
    return image, StoredFrame(raw, image.info.get("icc_profile"), metadata, dpi=image.info.get("dpi"))


def _read_bmp(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a BMP."""
    return _read_by_pillow(BmpImagePlugin.BmpImageFile, data, options)[1]


def _read_avif(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode an AVIF. Its container alone says which way up it is; Pillow hands that on in the EXIF."""
    image, frame = _read_by_pillow(AvifImagePlugin.AvifImageFile, data, options)
    frame.orientation = read_exif_view(frame.metadata.exif)[0] or 1
    frames = int(getattr(image, "n_frames", 1))
    frame.notes += [f"first of {frames} frames"] if frames > 1 else []
    return frame


def _read_gif(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode the first frame of a GIF; counting the frames would mean to read them all."""
    try:
        frame = _read_by_pillow(GifImagePlugin.GifImageFile, data, options)[1]
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error):
        return _mend_gif(data, options)
    with contextlib.suppress(
        OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error
    ):  # a damaged second frame is of no interest
        if GifImagePlugin.GifImageFile(io.BytesIO(data)).is_animated:
            frame.notes.append("first of several frames")
    return frame


def _mend_gif(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a GIF whose first frame has no end, and may lack a few rows."""
    opened, height = open_gif(data), int.from_bytes(data[8:10], "little")
    if opened is None:
        raise DecodeError("the GIF is damaged", "a complete GIF", "get the original file again")
    with contextlib.suppress(OSError, EOFError, IndexError):  # where rows are missing
        frame = _read_by_pillow(GifImagePlugin.GifImageFile, opened.close(0), options)[1]
        frame.notes.append("the end is missing; all rows are there")
        return frame
    continued = opened.close(height if options.allow_damaged else count_few_rows(height))
    image, frame = _read_by_pillow(GifImagePlugin.GifImageFile, continued, options)
    indices = np.asarray(image)
    if indices.ndim != 2:
        raise DecodeError("the first frame of the GIF is not whole", "a complete GIF", "get the original file again")
    missing = find_unwritten_rows(indices, interlaced=opened.interlaced)
    fill_missing_rows(frame, missing, "GIF", allow_damaged=options.allow_damaged)
    return frame


def _read_webp(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a WebP: still ones by OpenCV, since Pillow's animation decoder needs twice the memory."""
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    check_size(*image.size, options.limits)
    raw, notes = None, []
    if image.n_frames > 1:
        notes = [f"first of {image.n_frames} frames"]
    else:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is not None and values.shape[:2] == image.size[::-1]:
            raw = raw_from_bgr(values, keep_uint16=options.keep_uint16)
    if raw is None:
        image.load()
        raw = raw_from_pil(image)
    return StoredFrame(raw, image.info.get("icc_profile"), pil_metadata(image, complete=False), notes=notes)


def heic_plugin() -> Any:
    """Return what opens a HEIC for Pillow, and turns it upright as its container says.

    Raises:
        MissingExtraError: The package for these is not installed.
    """
    try:
        from pillow_heif import as_plugin
    except ImportError as error:
        raise MissingExtraError(
            "HEIC pictures need a package that is not installed", "", 'run: pip install "cutray[heic]"'
        ) from error
    return as_plugin.HeifImageFile


def _read_heic(data: bytes, options: ReadOptions) -> StoredFrame:
    """Decode a HEIC."""
    frame = _read_by_pillow(heic_plugin(), data, options)[1]
    frame.orientation = 1
    return frame


def _load(plugin: _Plugin, data: bytes, limits: InputLimits) -> ImageFile.ImageFile:
    """Read a header, check it, and only then decode."""
    image = plugin(io.BytesIO(data))
    check_size(*image.size, limits)
    image.load()
    return image


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "JPEG": _read_jpeg,
        "PNG": _read_png,
        "TIFF": _read_tiff,
        "GIF": _read_gif,
        "HEIC": _read_heic,
        "WEBP": _read_webp,
        "AVIF": _read_avif,
        "BMP": _read_bmp,
    }
)
