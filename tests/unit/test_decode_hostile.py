"""Hostile and damaged files end in a typed error or a picture, soon, and without much memory."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from cutray.config import InputLimits
from cutray.errors import CutrayError, DecodeError, ImageTooLargeError, UnsupportedFormatError
from cutray.imaging.decode import decode_image
from cutray.imaging.mend import count_few_rows
from tests import hostile
from tests.pictures import photo, saved

MOST_S = 5.0  # of the processor's time: other programs may hold the machine
MOST_GROWTH_BYTES = 1 << 30

EXPECTED: dict[str, type[CutrayError] | None] = {
    "strip.png": ImageTooLargeError,
    "deep.png": ImageTooLargeError,
    "hollow.png": DecodeError,
    "overfull-8.png": DecodeError,
    "overfull-16.png": DecodeError,
    "profile.png": None,
    "text.png": None,
    "chunks.png": DecodeError,
    "pixel-chunks.png": DecodeError,
    "scans.jpg": ImageTooLargeError,
    "hidden-scans.jpg": ImageTooLargeError,
    "app1.jpg": ImageTooLargeError,
    "segments.jpg": DecodeError,
    "fill.jpg": DecodeError,
    "canvas.gif": ImageTooLargeError,
    "frames.gif": None,
    "frames.png": None,
    "canvas.webp": ImageTooLargeError,
    "huge.tiff": ImageTooLargeError,
    "loop.tiff": None,
    "huge.bmp": ImageTooLargeError,
}

# One process loads the decoder; each file is opened in a fork of it, which has a peak of its own.
_MEASURE = """
import os, sys, time
from pathlib import Path
from cutray.errors import CutrayError
from cutray.imaging.decode import decode_image
from cutray.imaging.mend import count_few_rows

def peak_bytes():
    # Not getrusage: its peak includes that of the process which started this one.
    status = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else "VmHWM: 0 kB"
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def measure(name):
    data = Path(name).read_bytes()
    before = peak_bytes()
    start = time.process_time()
    try:
        decode_image(data)
        outcome = "None"
    except CutrayError as error:
        outcome = type(error).__name__
    seconds = time.process_time() - start
    print(name, outcome, seconds, peak_bytes() - before, flush=True)

for name in sys.argv[1:]:
    if not (pid := os.fork()):
        measure(name)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, float]]:
    """Return what came of each bomb: the name of its error or "None", seconds, and growth in bytes."""
    folder = tmp_path_factory.mktemp("bombs")
    for name in EXPECTED:
        (folder / name).write_bytes(hostile.BOMBS[name]())
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, *EXPECTED],
        cwd=folder,
        capture_output=True,
        check=True,
        text=True,
        timeout=3000,
    )
    rows = (line.split() for line in run.stdout.splitlines())
    return {name: (outcome, float(seconds), float(growth)) for name, outcome, seconds, growth in rows}


@pytest.mark.parametrize("name", EXPECTED)
def test_bombs_are_cheap(name: str, measured: dict[str, tuple[str, float, float]]) -> None:
    """Each bomb is refused with its own error, or opened, within seconds and one gigabyte."""
    assert name in measured, "the process ended"
    outcome, seconds, growth = measured[name]
    expected = EXPECTED[name]
    assert outcome == (expected.__name__ if expected else "None")
    assert seconds < MOST_S
    assert growth < MOST_GROWTH_BYTES


def test_every_bomb_has_an_expectation() -> None:
    """No generated bomb is left untested."""
    assert set(hostile.BOMBS) == set(EXPECTED)


@pytest.mark.parametrize(("looks_like", "data"), hostile.impostors().items(), ids=list(hostile.impostors()))
def test_impostors_are_named(looks_like: str, data: bytes) -> None:
    """A file of another type is refused, and the message says what it looks like."""
    with pytest.raises(UnsupportedFormatError) as caught:
        decode_image(data)
    assert looks_like.lower() in str(caught.value).lower()


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_never_run(tmp_path: Path, protocol: int) -> None:
    """A pickle of any protocol with a picture's name is refused and not executed."""
    canary = tmp_path / "ran"
    with pytest.raises(DecodeError):
        decode_image(hostile.canary_pickle(canary, protocol))
    assert not canary.exists()


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00", b"BM"])
def test_tiny_files_are_refused(data: bytes) -> None:
    """An empty file and bare signatures are decode errors."""
    with pytest.raises(DecodeError):
        decode_image(data)


def test_random_bytes_are_refused() -> None:
    """Noise is a decode error, with and without a picture's signature in front."""
    rng = np.random.default_rng(1)
    for magic in (
        b"",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x10\x00\x00\x00WEBPVP8 ",
        b"II*\x00",
        b"GIF89a",
    ):
        for _ in range(40):
            with pytest.raises(CutrayError):
                decode_image(magic + rng.bytes(400))


@pytest.mark.parametrize("name", hostile.small_samples())
def test_truncated_files_are_refused_or_mended(name: str) -> None:
    """A file cut anywhere is a decode error, or lacks a few rows at most and says so; it is never half grey."""
    whole = hostile.small_samples()[name]
    pixels = decode_image(whole).pixels
    refused = 0
    for length in np.linspace(20, len(whole) - 1, 40).astype(int):
        try:
            image = decode_image(whole[:length])
        except DecodeError:
            refused += 1
            continue
        wrong = (image.pixels != pixels).any(axis=(1, 2))
        assert wrong.sum() <= count_few_rows(len(pixels))
        assert image.notes or not wrong.any()
    assert refused > 20


@pytest.mark.parametrize("name", hostile.small_samples())
def test_flipped_bits_never_escape(name: str) -> None:
    """Damaged bytes give a picture within limits or one of our errors, never another exception."""
    whole = hostile.small_samples()[name]
    rng = np.random.default_rng(len(whole))
    decoded = 0
    for _ in range(120):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 6)):
            damaged[at] ^= 1 << int(rng.integers(0, 8))
        start = time.process_time()
        try:
            image = decode_image(bytes(damaged), InputLimits(max_megapixels=1))
            decoded += 1
            assert image.pixels.dtype == np.uint8
            assert image.pixels.shape[0] * image.pixels.shape[1] <= 1_000_000
        except CutrayError:
            pass
        assert time.process_time() - start < MOST_S
    assert decoded < 120


def test_limits_are_checked_on_the_header() -> None:
    """Bytes, side and pixels above a limit are refused with the limit in the message."""
    data = saved(photo(60, 80), "PNG")
    for limits, word in (
        (InputLimits(max_bytes=100), "100 bytes"),
        (InputLimits(max_side_px=79), "79 pixels"),
        (InputLimits(max_megapixels=0.004), "0.004 million"),
    ):
        with pytest.raises(ImageTooLargeError, match=word):
            decode_image(data, limits)


def test_warnings_as_errors_change_nothing() -> None:
    """A picture above Pillow's own warning size but within ours opens without a warning."""
    data = saved(np.zeros((9_500, 9_500), np.uint8), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(data).pixels.shape == (9_500, 9_500, 3)


def test_data_behind_the_end_is_dropped() -> None:
    """Bytes behind the end of a JPEG or PNG change nothing, whatever they look like."""
    for format in ("JPEG", "PNG"):
        data = saved(photo(30, 30), format)
        polyglot = data + b"PK\x03\x04" + b"\xff\xda" * 500 + bytes(1000)
        assert np.array_equal(decode_image(polyglot).pixels, decode_image(data).pixels)
