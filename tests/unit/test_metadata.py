"""Metadata says how a photo is to be shown; of the rest only what was asked for is ever written."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cutray.imaging.decode import decode_image, from_pil
from cutray.imaging.encode import encode_image
from cutray.imaging.exif import ExifFields, encode_exif, read_exif_view
from cutray.imaging.iptc import find_iptc, wrap_iptc
from cutray.imaging.metadata import Metadata, StoredMetadata, select_metadata
from cutray.imaging.png_text import pack_raw_profile
from cutray.imaging.provenance import is_marked
from tests.pictures import blocks, exif_with, photo, png_chunk, png_with, saved, stored_for

CREDIT = b"Ada Photographer"
SECRETS = (b"SERIAL-4711", b"MAKERNOTE", b"OWNER-NAME", b"GPS-SECRET", b"THUMBNAIL", b"COMMENT-SECRET")
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")


def xmp_with(properties: str) -> bytes:
    """Return an XMP packet with some elements or attributes."""
    head = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/'
        '1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/"'
    )
    body = f"{head}>{properties}" if properties.startswith("<") else f"{head} {properties}>"
    return f"{body}</rdf:Description></rdf:RDF></x:xmpmeta>".encode()


def jpeg_with(*segments: tuple[int, bytes], pixels: Any = None) -> bytes:
    """Return a JPEG with application segments behind its start and without JFIF."""
    data = saved(blocks() if pixels is None else pixels, "JPEG", quality=95)
    start = 2 + 2 + int.from_bytes(data[4:6], "big")
    made = b"".join(bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return data[:2] + made + data[start:]


def _raw_profile(name: str, block: bytes, kind: bytes) -> bytes:
    """Return a PNG chunk with a raw profile."""
    text, keyword = pack_raw_profile(name.lower(), block), f"Raw profile type {name}".encode()
    if kind == b"zTXt":
        return png_chunk(kind, keyword + b"\x00\x00" + zlib.compress(text))
    return png_chunk(kind, keyword + (b"\x00" if kind == b"tEXt" else bytes(5)) + text)


XMP_6 = xmp_with('tiff:Orientation="6"')
XMP_SEGMENT = (0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + XMP_6)
PNG_6 = saved(stored_for(blocks(), 6), "PNG")
TURNED = stored_for(blocks(), 6)

UPRIGHT = {
    "JPEG, XMP alone": jpeg_with(XMP_SEGMENT, pixels=TURNED),
    "JPEG, EXIF behind XMP": jpeg_with(
        (0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp_with('tiff:Orientation="3"')),
        (0xE1, exif_with(6)),
        pixels=TURNED,
    ),
    "JPEG, EXIF without orientation, XMP with": jpeg_with((0xE1, exif_with(9)), XMP_SEGMENT, pixels=TURNED),
    "JPEG, EXIF prefix twice": jpeg_with((0xE1, b"Exif\x00\x00" + exif_with(6)), pixels=TURNED),
    "PNG, XMP alone": png_with(PNG_6, png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP_6)),
    "PNG, XMP element": png_with(
        PNG_6,
        png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp_with("<tiff:Orientation>6</tiff:Orientation>")),
    ),
    **{
        f"PNG, raw profile {name} in {kind.decode()}": png_with(PNG_6, _raw_profile(name, exif_with(6), kind))
        for name in ("exif", "APP1", "EXIF")
        for kind in (b"tEXt", b"zTXt", b"iTXt")
    },
    "PNG, eXIf before raw profile": png_with(
        PNG_6, _raw_profile("exif", exif_with(3), b"zTXt"), png_chunk(b"eXIf", exif_with(6)[6:])
    ),
    "PNG, raw profile xmp": png_with(PNG_6, _raw_profile("xmp", XMP_6, b"zTXt")),
    "PNG, raw profile APP1 with XMP": png_with(
        PNG_6, _raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\x00" + XMP_6, b"zTXt")
    ),
    "WebP, XMP alone": saved(TURNED, "WEBP", lossless=True, xmp=XMP_6),
    "WebP, EXIF before XMP": saved(
        TURNED, "WEBP", lossless=True, exif=exif_with(6), xmp=xmp_with('tiff:Orientation="8"')
    ),
    "TIFF, XMP alone": saved(TURNED, "TIFF", tiffinfo={700: XMP_6}),
}


@pytest.mark.parametrize("name", UPRIGHT)
def test_orientation_is_found_wherever_it_stands(name: str) -> None:
    """EXIF comes before XMP, a chunk of its own before a text chunk; one without a meaning does not count."""
    pixels = decode_image(UPRIGHT[name]).pixels
    assert pixels.shape == blocks().shape
    centres = np.s_[8::16, 8::16]
    assert np.abs(pixels[centres].astype(int) - blocks()[centres]).max() <= 12
    with Image.open(io.BytesIO(UPRIGHT[name])) as image:
        if "APP1" not in name and "EXIF" not in name and "raw profile xmp" not in name:  # Pillow does not look there
            assert from_pil(image).pixels.shape == blocks().shape


@pytest.mark.parametrize("value", ["0", "9", "top", ""])
def test_meaningless_xmp_orientations_are_ignored(value: str) -> None:
    """Orientation 0, 9, text and nothing leave the picture as it is stored."""
    data = jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp_with(f'tiff:Orientation="{value}"')))
    assert decode_image(data).pixels.shape == blocks().shape


def test_avif_is_turned_by_its_container_alone() -> None:
    """XMP does not turn an AVIF whose container says that it is upright."""
    data = saved(blocks(), "AVIF", xmp=XMP_6, speed=10)
    assert decode_image(data).pixels.shape == blocks().shape


def _resolution(dpi: float, unit: int = 2) -> bytes:
    exif = Image.Exif()
    exif[0x11A] = exif[0x11B] = dpi
    exif[0x128] = unit
    return bytes(exif.tobytes())


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with((0xE1, _resolution(300))),
        jpeg_with((0xE1, _resolution(300 / 2.54, unit=3))),
        jpeg_with(
            (0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp_with('tiff:XResolution="300/1" tiff:YResolution="300/1"'))
        ),
        png_with(saved(blocks(), "PNG"), png_chunk(b"eXIf", _resolution(300)[6:])),
        png_with(saved(blocks(), "PNG"), _raw_profile("exif", _resolution(300), b"tEXt")),
        saved(blocks(), "WEBP", exif=_resolution(300)),
        saved(blocks(), "AVIF", exif=_resolution(300), speed=10),
    ],
)
def test_resolution_of_metadata_is_kept(data: bytes) -> None:
    """Dots per inch of EXIF or XMP alone reach the result, in every format that has a place for them."""
    image = decode_image(data)
    assert image.dpi == pytest.approx((300, 300), rel=0.001)
    for format in ("PNG", "JPEG", "TIFF"):
        assert decode_image(encode_image(image.pixels, format, dpi=image.dpi)).dpi == pytest.approx(
            (300, 300), rel=0.01
        )


def test_the_files_own_resolution_comes_first() -> None:
    """The density of JFIF or of a pHYs chunk counts before that of EXIF."""
    for format in ("JPEG", "PNG"):
        data = saved(blocks(), format, dpi=(150, 150), exif=_resolution(300))
        assert decode_image(data).dpi == pytest.approx((150, 150), rel=0.01)


def private_exif(orientation: int = 6) -> bytes:
    """Return EXIF with all that a photographer wants, and all that nobody must see."""
    exif = Image.Exif()
    exif[0x112], exif[0x13B], exif[0x8298], exif[0x110] = orientation, CREDIT.decode(), "(c) Ada", "Camera X"
    photo_part = exif.get_ifd(0x8769)
    photo_part.update({0x9003: "2026:01:02 03:04:05", 0x829D: 2.8, 0x8827: 400, 0xA434: "50 mm"})
    photo_part.update(
        {
            0xA431: "SERIAL-4711",
            0xA435: "SERIAL-4711",
            0x927C: b"MAKERNOTE" * 9,
            0xA430: "OWNER-NAME",
            0x9286: b"COMMENT-SECRET",
        }
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 27: b"GPS-SECRET"})
    exif.get_ifd(1).update({0x10E: "THUMBNAIL"})
    return bytes(exif.tobytes())


RECORDS = b"".join(
    struct.pack(">BBBH", 0x1C, record, number, len(value)) + value
    for record, number, value in ((1, 90, b"\x1b%G"), (2, 80, CREDIT), (2, 116, b"(c) Ada"), (2, 202, b"THUMBNAIL"))
)
RIGHTS = xmp_with(
    "<dc:rights><rdf:Alt><rdf:li xml:lang='x-default'>(c) Ada &amp; Co</rdf:li></rdf:Alt></dc:rights>"
    f"<dc:creator><rdf:Seq><rdf:li>{CREDIT.decode()}</rdf:li></rdf:Seq></dc:creator>"
    "<xmpRights:Marked>True</xmpRights:Marked><exif:GPSLatitude>GPS-SECRET</exif:GPSLatitude>"
    "<tiff:Orientation>6</tiff:Orientation>"
)


def _private_photo() -> bytes:
    return jpeg_with(
        (0xE1, private_exif()),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + RIGHTS),
        (0xED, b"Photoshop 3.0\x00" + wrap_iptc(RECORDS)),
        pixels=photo(40, 60),
    )


@pytest.mark.parametrize("format", FORMATS)
def test_kept_metadata_is_what_a_photographer_wants(format: str) -> None:
    """EXIF, IPTC and XMP copyright survive in every format that holds them; nothing private does."""
    image = decode_image(_private_photo(), keep_metadata=True)
    assert image.pixels.shape == (60, 40, 3)
    data = encode_image(image.pixels, format, metadata=image.metadata, dpi=(300, 300))
    again = decode_image(data, keep_metadata=True)
    assert again.pixels.shape == (60, 40, 3)  # not turned a second time
    assert again.metadata is not None
    assert image.metadata is not None
    assert again.metadata.exif is not None
    assert again.metadata.exif.image[0x13B][1].rstrip(b"\x00") == CREDIT
    assert {0x9003, 0x829D, 0x8827, 0xA434} <= set(again.metadata.exif.photo)
    assert again.metadata.xmp == image.metadata.xmp
    assert b"(c) Ada &amp; Co" in (again.metadata.xmp or b"")
    assert again.metadata.iptc == (None if format in ("WEBP", "AVIF") else image.metadata.iptc)
    assert again.dpi == pytest.approx((300, 300), rel=0.01)
    assert is_marked(data)
    for secret in (*SECRETS, b"tiff:Orientation", b"GPS"):
        assert secret not in data
    with Image.open(io.BytesIO(data)) as opened:
        exif = opened.getexif()
        assert exif.get(0x13B) == CREDIT.decode()
        assert exif.get(0x112, 1) == 1
        assert not exif.get_ifd(0x8825)
        assert exif.get_ifd(0x8769)[0x8827] == 400


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_that_is_too_long_for_a_format_costs_no_photo(format: str) -> None:
    """A block that a JPEG's segments cannot hold is left out; the picture is written, with Cutray's mark."""
    long = bytes(8000)
    metadata = Metadata(
        exif=ExifFields(dict.fromkeys((270, 271, 272), (7, long)), dict.fromkeys(range(6), (7, long))),
        xmp=RIGHTS + b" " * 70_000,
        iptc=b"\x1c\x02\x05\x40\x00" + bytes(0x4000) + b"\x1c\x02\x05\x7f\xff" + bytes(0x7FFF) * 2,
    )
    data = encode_image(photo(8, 8), format, metadata=metadata)
    assert decode_image(data).pixels.shape == (8, 8, 3)
    assert is_marked(data[: 1 << 16], data[-(1 << 16) :])


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_written_by_default(format: str) -> None:
    """Without the option no metadata reaches the result."""
    image = decode_image(_private_photo())
    assert image.metadata is None
    data = encode_image(image.pixels, format, metadata=image.metadata)
    for word in (*SECRETS, CREDIT, b"(c) Ada", b"Camera X", b"2026:01:02"):
        assert word not in data


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_metadata_is_read_from_every_format(format: str) -> None:
    """What is kept of a photo does not depend on its format, nor on whether Pillow has opened it."""
    data = saved(photo(30, 40), format, exif=private_exif(1), **({"xmp": RIGHTS} if format != "TIFF" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        found = (decode_image(data, keep_metadata=True), from_pil(opened, keep_metadata=True))
    for image in found:
        assert image.metadata is not None
        assert image.metadata.exif is not None
        assert image.metadata.exif.image[0x13B][1].rstrip(b"\x00") == CREDIT
        assert {0xA431, 0x927C, 0xA430, 0x9286}.isdisjoint(image.metadata.exif.photo)


def test_big_endian_exif_is_brought_to_little_endian() -> None:
    """The values of a block in the other byte order stay the same."""
    exif = Image.Exif()
    exif.endian = ">"
    exif[0x13B] = CREDIT.decode()
    exif.get_ifd(0x8769).update({0x8827: 400, 0x829D: 2.8})
    block = exif.tobytes()
    assert block[6:8] == b"MM"
    metadata = select_metadata(StoredMetadata(block))
    assert metadata is not None
    assert metadata.exif is not None
    again = Image.Exif()
    again.load(b"Exif\x00\x00" + encode_exif(metadata.exif))
    assert again.get_ifd(0x8769) == {0x8827: 400, 0x829D: 2.8}


@pytest.mark.parametrize("seed", range(5))
def test_damaged_metadata_is_never_an_error(seed: int) -> None:
    """Random damage to EXIF, XMP and IPTC gives less metadata, nothing else."""
    rng = np.random.default_rng(seed)
    for _ in range(60):
        parts = []
        for block in (private_exif(), RIGHTS, wrap_iptc(RECORDS)):
            damaged = bytearray(block[: int(rng.integers(1, len(block) + 1))])
            for at in rng.integers(0, len(damaged), 4):
                damaged[at] = int(rng.integers(0, 256))
            parts.append(bytes(damaged))
        stored = StoredMetadata(*parts)
        assert stored.read_view()[0] in range(1, 9)
        metadata = select_metadata(stored)
        for format in FORMATS:
            encode_image(photo(4, 4), format, metadata=metadata)


def test_entities_in_xmp_are_not_expanded() -> None:
    """A packet that declares entities is left out as a whole."""
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>' + RIGHTS.replace(b"(c)", b"&b;")
    assert select_metadata(StoredMetadata(xmp=bomb)) is None


def test_text_of_a_png_that_is_no_metadata_is_not_unpacked() -> None:
    """Comments and unknown raw profiles are passed over; a damaged one changes nothing."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "hello", zip=True)
    info.add_text("Raw profile type exif", "\nexif\n      12\nzz")
    info.add_text("Raw profile type xyz", "\nxyz\n      2\nabcd")
    assert decode_image(saved(blocks(), "PNG", pnginfo=info)).pixels.shape == blocks().shape


def test_blocks_without_meaning_say_nothing() -> None:
    """Empty and foreign blocks give no orientation, resolution or records."""
    for block in (None, b"", b"Exif\x00\x00", b"MM\x00*", b"II*\x00\xff\xff\xff\xff"):
        assert read_exif_view(block) == (None, None)
    assert find_iptc(b"Photoshop 3.0\x00") is None
    assert find_iptc(b"8BIM\x04\x04") is None
    assert encode_image(photo(4, 4), "PNG", metadata=Metadata()) == encode_image(photo(4, 4), "PNG")
    assert re.fullmatch(rb"II\*\x00.*", encode_exif(ExifFields()), re.DOTALL)
