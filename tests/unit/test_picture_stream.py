"""Pictures that follow each other in a pipe are told apart."""

from __future__ import annotations

import io
import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cutray.commands.remove.pipe import _read_pictures
from cutray.config import RemoverSettings
from cutray.imaging.encode import encode_image
from cutray.imaging.picture_stream import HEAD_BYTES, split_pictures

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


def _multi_picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])])
    assert buffer.getvalue().count(b"\xff\xd8\xff") >= 2
    return buffer.getvalue()


def test_further_views_of_a_photo_belong_to_it() -> None:
    """A Multi-Picture file has several JPEGs in it and is one photo."""
    data = _multi_picture()
    assert split_pictures(data) == [data]


@pytest.mark.parametrize("second", [*FORMATS, "MPO"])
def test_photos_behind_one_with_further_views(second: str) -> None:
    """What follows a Multi-Picture file, as phones write them, is a photo of its own."""
    first, other = _multi_picture(), _multi_picture() if second == "MPO" else _saved(second)
    assert split_pictures(first + other + first) == [first, other, first]


def test_damaged_index_of_views() -> None:
    """Where the index of views cannot be read, all that follows stays with the photo, and nothing is lost."""
    data = _multi_picture()
    for at in range(data.index(b"MPF\0") + 4, data.index(b"MPF\0") + 70):
        damaged = data[:at] + b"\xff" + data[at + 1 :] + data
        assert b"".join(split_pictures(damaged)) == damaged


def test_a_pipe_may_hold_more_than_one_photo_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest size is that of one photo: what follows it in the pipe is read, too."""
    parts = [_saved(format) for format in FORMATS] * 3
    longest = max(map(len, parts))
    for max_bytes in (longest, longest + 1, 2 * longest + 7):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"".join(parts))))
        assert _read_pictures(RemoverSettings(max_bytes=max_bytes)) == parts
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(parts[0] + bytes(50 * longest))))
    (too_large,) = _read_pictures(RemoverSettings(max_bytes=longest))
    assert longest < len(too_large) <= longest + HEAD_BYTES


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
