"""Photos are found by ending or content, and what Cutray made is known again."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.imaging.encode import FORMATS, encode_image
from cutray.imaging.photo_files import find_photos
from cutray.imaging.provenance import SOFTWARE, is_result
from pipelines.bench.photos import mixed_photos, photos_of_size
from tests.pictures import wide_profile

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", sorted(set(FORMATS.values())))
def test_results_are_known_again(format: str, depth: type, tmp_path: Path) -> None:
    """A result of every format is known by its content, whatever its name, also with a profile and when large."""
    if depth is np.uint16 and format not in ("PNG", "TIFF"):
        pytest.skip("8 bits only")
    path = tmp_path / "some.name"
    path.write_bytes(encode_image(PIXELS.astype(depth), format, icc_profile=wide_profile(), quality=100))
    assert path.stat().st_size > 100_000
    assert is_result(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"])
def test_pictures_of_other_programs_are_photos(format: str, tmp_path: Path) -> None:
    """What another program wrote is no result, even if its name looks like one."""
    path = tmp_path / "a-cutout.png"
    Image.fromarray(PIXELS).save(path, format)
    assert not is_result(path)


def test_what_cannot_be_read_is_no_result(tmp_path: Path) -> None:
    """A missing file, an empty one and a folder are not results."""
    (tmp_path / "empty").touch()
    assert not any(is_result(tmp_path / name) for name in ("missing", "empty", ""))


def test_small_result_is_searched_once_to_its_end(tmp_path: Path) -> None:
    """The mark is found wherever it is in a small file."""
    path = tmp_path / "x"
    path.write_bytes(b"RIFF" + bytes(100) + SOFTWARE.encode())
    assert is_result(path)


def test_photos_are_found_by_ending_or_content(tmp_path: Path) -> None:
    """Known endings count, files without an ending are looked into, everything else is left out."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[:8, :8]).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    for name, data in {
        "a.JPG": b"x", "b.png": b"", "DSC0001": jpeg, "README": b"some text", "empty": b"", "notes.txt": jpeg,
        ".hidden.jpg": jpeg, "sub/c.webp": b"x", ".cache/d.jpg": jpeg, "out/e.png": b"x",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.jpg")
    found = [str(path.relative_to(tmp_path)) for path in find_photos(tmp_path, exclude=tmp_path / "out")]
    assert found == ["DSC0001", "a.JPG", "b.png", "sub/c.webp"]


def test_sample_photos_are_photos(tmp_path: Path) -> None:
    """Photos that the benchmarks make carry no mark, or nothing would be done with them."""
    mixed_photos(None, 6, tmp_path)
    paths = [*tmp_path.iterdir(), *photos_of_size(None, 0.05, tmp_path)]
    assert len(paths) > 6
    assert not any(map(is_result, paths))
