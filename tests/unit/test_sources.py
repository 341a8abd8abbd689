"""Open files go in and out like paths: memory, files on disk, pipes, and what is no file at all."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.config import RemoverSettings
from cutray.errors import ImageTooLargeError, InputError, OptionError, OutputError
from cutray.sources import decode_source, output_format, write_result
from tests.pictures import saved

SETTINGS = RemoverSettings()
PHOTO = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.fixture
def data() -> bytes:
    """Return a photo as PNG."""
    return saved(PHOTO, "PNG")


def test_open_files_are_read(data: bytes, tmp_path: Path) -> None:
    """Memory, a buffered and an unbuffered file, a member of an archive, and a pipe give the photo's pixels."""
    (tmp_path / "a.png").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", data)
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with (
        (tmp_path / "a.png").open("rb") as buffered,
        (tmp_path / "a.png").open("rb", buffering=0) as raw,
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        archive.open("a.png") as member,
        os.fdopen(reader, "rb") as pipe,
    ):
        for file in (io.BytesIO(data), buffered, raw, member, pipe):
            assert np.array_equal(decode_source(file, SETTINGS).image.pixels, PHOTO)


def test_they_are_read_from_where_they_stand(data: bytes) -> None:
    """As every other reader of pictures does: what was read before is not read again."""
    file = io.BytesIO(b"header" + data)
    file.seek(6)
    assert np.array_equal(decode_source(file, SETTINGS).image.pixels, PHOTO)
    with pytest.raises(InputError):
        decode_source(file, SETTINGS)  # it stands at its end


def test_limits_hold_for_open_files(data: bytes) -> None:
    """A stream without end is not read without end."""

    class Endless:
        given = 0

        def read(self, size: int, /) -> bytes:
            self.given += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(ImageTooLargeError):
        decode_source(endless, RemoverSettings(max_bytes=5_000_000))
    assert endless.given < 10_000_000


def test_what_is_no_open_binary_file_is_refused_with_what_to_do(data: bytes, tmp_path: Path) -> None:
    """Text, closed files, files for writing, and other objects."""
    (tmp_path / "a.png").write_bytes(data)
    closed = io.BytesIO(data)
    closed.close()
    with (
        (tmp_path / "a.png").open(encoding="latin-1") as text,
        (tmp_path / "a.png").open() as unreadable,
        (tmp_path / "b.png").open("wb") as writing,
    ):
        for file in (text, unreadable, closed, writing, io.StringIO("text")):
            with pytest.raises(InputError, match='"rb"'):
                decode_source(file, SETTINGS)  # type: ignore[arg-type]
    for other in (None, 5, ["a.png"]):
        with pytest.raises(InputError, match="open binary file"):
            decode_source(other, SETTINGS)  # type: ignore[arg-type]


def test_the_name_of_an_open_file_gives_the_format(tmp_path: Path) -> None:
    """Without a name that has an ending it is PNG; an ending that is no format is refused before any work."""
    with (tmp_path / "a.webp").open("wb") as named:
        assert output_format(SETTINGS, named) == "WEBP"
    assert output_format(SETTINGS, io.BytesIO()) == "PNG"
    assert output_format(RemoverSettings(format="tiff"), io.BytesIO()) == "TIFF"
    with tempfile.TemporaryFile() as nameless:
        assert output_format(SETTINGS, nameless) == "PNG"
    with (tmp_path / "a.xyz").open("wb") as odd, pytest.raises(OptionError):
        output_format(SETTINGS, odd)


def test_destinations_that_take_no_bytes_are_refused_before_any_work(tmp_path: Path) -> None:
    """Text files, files for reading, and other objects."""
    (tmp_path / "a.png").write_bytes(b"")
    with (tmp_path / "a.png").open("rb") as reading, (tmp_path / "b.png").open("w", encoding="utf-8") as text:
        for file in (reading, text, io.StringIO(), 5):
            with pytest.raises(OptionError, match='"wb"'):
                output_format(SETTINGS, file)  # type: ignore[arg-type]


def test_results_are_written_whole_and_the_file_stays_open(data: bytes, tmp_path: Path) -> None:
    """Also where a file takes a few bytes at a time; what follows comes behind."""

    class Slow:
        def __init__(self) -> None:
            self.taken = b""

        def write(self, part: bytes, /) -> int:
            self.taken += part[:100]
            return min(len(part), 100)

    slow, memory = Slow(), io.BytesIO()
    write_result(slow, data, overwrite=False)
    assert slow.taken == data
    write_result(memory, data, overwrite=False)
    write_result(memory, data, overwrite=False)
    assert memory.getvalue() == 2 * data
    with (tmp_path / "a.png").open("wb") as file:
        write_result(file, data, overwrite=False)
        assert (tmp_path / "a.png").read_bytes() == data
        assert not file.closed
    with pytest.raises(OutputError):
        write_result(file, data, overwrite=False)


def test_paths_and_open_files_give_the_same_photo(data: bytes, tmp_path: Path) -> None:
    """A path as text or as an object, bytes and memory views."""
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, str(path), data, memoryview(data), Image.fromarray(PHOTO)):
        assert np.array_equal(decode_source(source, SETTINGS).image.pixels, PHOTO)  # type: ignore[arg-type]
