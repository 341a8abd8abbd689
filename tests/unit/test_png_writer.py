"""The PNG writer is exact for every mode and depth, whoever reads the file."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from cutray.imaging import png_writer
from cutray.imaging.png_writer import write_png
from tests.pictures import photo, wide_profile, with_alpha


def read_with_opencv(data: bytes) -> np.ndarray[Any, Any]:
    """Decode with OpenCV, in RGB order."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3, 4]),
    sixteen_bit=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_array_comes_back(height: int, width: int, channels: int, sixteen_bit: bool, seed: int) -> None:
    """Noise of any size, depth and number of channels is read back exactly by OpenCV and Pillow."""
    kind = np.uint16 if sixteen_bit else np.uint8
    pixels: Any = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, channels), dtype=kind)
    pixels = pixels[..., 0] if channels == 1 else pixels
    data = write_png(pixels)
    assert np.array_equal(read_with_opencv(data), pixels)
    image = Image.open(io.BytesIO(data))
    if not sixteen_bit or channels == 1:
        assert np.array_equal(np.asarray(image), pixels)


def test_many_strips_form_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is compressed in many strips is read back exactly."""
    pixels = with_alpha(photo(123, 57))
    whole = write_png(pixels)
    monkeypatch.setattr(png_writer, "_STRIP_BYTES", 1000)
    in_strips = write_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(in_strips))), pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(whole))), pixels)
    # zlib compares the checksum that is put together from those of the strips; readers of pictures may not.
    assert zlib.decompress(_image_data(in_strips)) == zlib.decompress(_image_data(whole))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strips are the same however many are compressed at a time."""
    pixels = with_alpha(photo(700, 900))
    monkeypatch.setattr(cv2, "getNumThreads", lambda: threads)
    data = write_png(pixels)
    assert np.array_equal(read_with_opencv(data), pixels)
    rows = zlib.decompress(_image_data(data))
    assert len(rows) == 700 * (900 * 4 + 1)


def _image_data(data: bytes) -> bytes:
    """Return what the IDAT chunks of a PNG hold."""
    parts, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        parts += [data[at + 8 : at + 8 + length]] if kind == b"IDAT" else []
        at += length + 12
    return b"".join(parts)


def test_zlib_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ISA-L the file is written by zlib and holds the same pixels."""
    pixels = photo(60, 70)
    monkeypatch.setitem(sys.modules, "isal", None)
    data = write_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::2], np.s_[::3, ::-1]])
def test_views_need_no_copy_by_the_caller(view: Any) -> None:
    """Arrays that are not contiguous are written as they are seen."""
    pixels = photo(33, 44)[view]
    assert np.array_equal(read_with_opencv(write_png(pixels)), pixels)


def test_profile_and_resolution_are_stored() -> None:
    """A profile and a resolution are read back; without a profile the file says sRGB."""
    image = Image.open(io.BytesIO(write_png(photo(8, 8), wide_profile(), (300.0, 150.0))))
    assert image.info["icc_profile"] == wide_profile()
    assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
    plain = Image.open(io.BytesIO(write_png(photo(8, 8))))
    assert plain.info["srgb"] == 1
    assert "icc_profile" not in plain.info
    assert ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"])).profile.xcolor_space == "RGB "


def test_files_are_no_larger_than_pillows() -> None:
    """On a photo, a cutout and a mask the file is at most 10 % larger than Pillow's at its fastest level."""
    cutout = with_alpha(photo(400, 600))
    cutout[cutout[..., 3] == 0] = 0
    for pixels in (cutout[..., :3], cutout, cutout[..., 3]):
        sink = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(sink, "PNG", compress_level=1)
        assert len(write_png(pixels)) < 1.1 * len(sink.getvalue()) + 500
