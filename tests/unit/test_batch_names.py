"""Names that are no text, too long, or nearly equal come through a batch, each with a result of its own."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutray.config import InputLimits
from pipelines.batch.names import decode_name, encode_name, name_outputs, printable, safe_key
from pipelines.batch.sources import list_photos, read_photo
from pipelines.batch.storage import LocalStorage

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ODD_NAMES = [
    b"caf\xe9.jpg",
    b"caf%E9.jpg",
    b"caf%25E9.jpg",
    b"100% wool.jpg",
    b"line\nbreak.jpg",
    b"bell\x07 and \x1b[31mred.jpg",
    b"what?.jpg",
    b"a\\b.jpg",
    "né.jpg".encode(),
    "ne\u0301.jpg".encode(),
    b"\xff\xfe/\x80.jpg",
    b"<b>&amp;.jpg",
    b"two\xe2\x80\xa8lines.jpg",
    b"x" * 251 + b".jpg",
]


@pytest.fixture
def odd_photos(tmp_path: Path) -> Path:
    """A folder of photos with odd names; each holds its own name."""
    folder = tmp_path / "photos"
    for name in ODD_NAMES:
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(name)
    return folder


@given(st.binary(max_size=12).filter(lambda name: b"\0" not in name) | st.text("%25EÉ9e", max_size=8).map(os.fsencode))
def test_no_two_names_become_one(name: bytes) -> None:
    """A name is written as text that UTF-8 can hold, and comes back as it was."""
    text = encode_name(os.fsdecode(name))
    text.encode()
    assert os.fsencode(decode_name(text)) == name


def test_ordinary_names_stay(tmp_path: Path) -> None:
    """Only what is no text is written otherwise."""
    for name in ("a.jpg", "x/é 100% wool.jpg", "日本.png", "50%2c.jpg", "line\nbreak.jpg"):
        assert encode_name(name) == name


def test_every_photo_of_a_folder_is_read(odd_photos: Path) -> None:
    """Keys are text, differ, and lead to the photo that they stand for."""
    listing = list_photos(str(odd_photos))
    read = {photo.key: read_photo(listing.reader, photo.location, InputLimits()) for photo in listing.photos}
    assert sorted(read.values()) == sorted(ODD_NAMES)
    assert {key.encode() for key, name in read.items() if b"100%" in name} == {b"100% wool.jpg"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_photo_of_a_list_is_read(kind: str, odd_photos: Path) -> None:
    """A list may name them as they are; in CSV with quotes, in JSON with escapes."""
    file = odd_photos / f"list.{kind}"
    names = [name for name in ODD_NAMES if kind == "csv" or (b"\xe9" not in name and b"\xff" not in name)]
    lines = {
        "csv": [b"path", *(b'"' + name + b'"' for name in names)],
        "jsonl": [b'{"path": "' + name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b'"}' for name in names],
    }
    if kind == "jsonl":
        lines[kind] = [line.replace(b"\x07", b"\\u0007").replace(b"\x1b", b"\\u001b") for line in lines[kind]]
    file.write_bytes(b"\n".join(lines[kind]))
    listing = list_photos(str(file))
    read = [read_photo(listing.reader, photo.location, InputLimits()) for photo in listing.photos]
    assert sorted(read) == sorted(names)


def test_every_member_of_a_tar_is_read(tmp_path: Path) -> None:
    """Names of members need not be UTF-8."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ODD_NAMES:
            member = tarfile.TarInfo(os.fsdecode(name))
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name))
    listing = list_photos(str(tmp_path / "a.tar"))
    for photo in listing.photos:
        photo.key.encode()
    assert {listing.reader.read(photo.location, InputLimits()) for photo in listing.photos} == set(ODD_NAMES)


def test_results_have_the_photos_names(odd_photos: Path, tmp_path: Path) -> None:
    """In a folder a result's name has the bytes of the photo's; longer ones than a file system takes are cut."""
    target = LocalStorage(str(tmp_path / "out"))
    keys = [photo.key for photo in list_photos(str(odd_photos)).photos]
    names = name_outputs(keys, {}, ".webp")
    for key, name in names.items():
        target.write(name, key.encode(), overwrite=False)
    written = {os.fsencode(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.webp")}
    assert {b"caf\xe9.webp", b"caf%E9.webp", b"\xff\xfe/\x80.webp", b"line\nbreak.webp"} <= written
    assert len(written) == len(ODD_NAMES) == len({file.name for file in target.walk()})
    assert {file.name for file in target.walk()} == set(names.values())


def test_twins_get_names_that_differ_everywhere() -> None:
    """Two ways to write one accent are one file on some systems, so both results keep apart."""
    names = name_outputs(["né.jpg", "ne\u0301.jpg"], {}, ".png")
    assert len({name.encode("ascii", "ignore") for name in names.values()}) == 2


def test_long_names_that_begin_alike_keep_apart() -> None:
    """What is cut off is told apart by a hash, and every part of a path stays within what file systems take."""
    keys = [f"{'ä' * 120}{end}.jpg" for end in ("1", "2", "%FF%FE" * 4)]
    names = name_outputs(keys, {}, ".cutout.webp")
    assert len(set(names.values())) == 3
    assert all(len(os.fsencode(decode_name(name))) <= 255 for name in names.values())


def test_a_question_mark_is_part_of_a_path() -> None:
    """Only addresses have a query."""
    assert safe_key("x/what?1.jpg") == "x/what?1.jpg"
    assert safe_key("s3://bucket/a.jpg?region=x") == "bucket/a.jpg"


def test_what_is_shown_is_one_line() -> None:
    """Control characters of a name reach neither a terminal nor a table."""
    assert printable("a\n\x1b[31mé\udce9") == "a\\n\\x1b[31mé\\udce9"
