"""Pictures that follow each other in a pipe are told apart."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from cutray.imaging.encode import encode_image
from cutray.imaging.picture_stream import split_pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF")


def _saved(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FORMATS, [*FORMATS, "TIFF"])))
def test_two_pictures(first: str, second: str) -> None:
    """Two pictures of any formats come out as they went in."""
    parts = [_saved(first), _saved(second)]
    assert split_pictures(b"".join(parts)) == parts


@pytest.mark.parametrize("format", [*FORMATS, "TIFF"])
def test_one_picture_stays_whole(format: str) -> None:
    """A single picture is left alone, also with other bytes behind it."""
    data = _saved(format)
    assert split_pictures(data) == [data]
    assert split_pictures(data + b"\0\0 something") == [data + b"\0\0 something"]


def test_variants_and_longer_streams() -> None:
    """Progressive JPEG, animations, results of Cutray, and more than two pictures."""
    frames = [Image.fromarray(np.roll(PIXELS, 5 * shift, axis=0)) for shift in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], comment=b"some words")
    parts = [
        _saved("JPEG", progressive=True, comment=b"\xff\xd9 in a comment"),
        buffer.getvalue(),
        encode_image(PIXELS, "PNG"),
        encode_image(PIXELS, "WEBP"),
        _saved("JPEG", exif=b"Exif\0\0" + _saved("JPEG", quality=5)),
        _saved("PNG"),
    ]
    assert split_pictures(b"".join(parts)) == parts


def test_further_views_of_a_photo_belong_to_it() -> None:
    """A Multi-Picture file has several JPEGs in it and is one photo."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])])
    data = buffer.getvalue()
    assert data.count(b"\xff\xd8\xff") >= 2
    assert split_pictures(data) == [data]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(5)])
def test_what_is_no_picture_comes_back(data: bytes) -> None:
    """Bytes that are no picture, or an incomplete one, are passed on for the decoder to refuse."""
    assert split_pictures(data) == ([data] if data else [])


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_picture_never_hangs(format: str) -> None:
    """Every beginning of a picture, followed by a whole one, is split or kept in finite time, and nothing is lost."""
    data, other = _saved(format), _saved("PNG")
    for end in range(1, len(data), 37):
        assert b"".join(split_pictures(data[:end] + other)) == data[:end] + other
