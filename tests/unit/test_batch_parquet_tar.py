"""Photos in Parquet files and tars are found and read one by one, and damage is told."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest

from cutray.config import InputLimits
from cutray.errors import ImageTooLargeError, InputError, OptionError
from pipelines.batch.sources import list_photos
from pipelines.batch.tar_source import TarSource

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
LIMITS = InputLimits(max_bytes=1000)


def _table(file: Path, columns: dict[str, list], rows_per_group: int = 1000) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=rows_per_group)
    return file


def _tar(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def _contents(source: Path, **columns: str) -> dict[str, bytes]:
    listing = list_photos(str(source), **columns)
    reader = pickle.loads(pickle.dumps(listing.reader))
    return {photo.key: reader.read(photo.location, LIMITS) for photo in listing.photos}


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ({"image": [b"0", b"1"], "id": ["x/a", "x/b"]}, ["x/a", "x/b"]),
        ({"id": [7, 8], "jpg": [b"0", b"1"]}, ["7", "8"]),
        ({"anything": [b"0", b"1"]}, ["00000000", "00000001"]),
        ({"image": [{"bytes": b"0", "path": "a.jpg"}, {"bytes": b"1", "path": None}]}, ["a.jpg", "00000001"]),
        ({"image": [{"bytes": b"0"}, {"bytes": b"1"}], "path": ["../a.jpg", "/b.jpg"]}, ["a.jpg", "b.jpg"]),
    ],
)
def test_columns_are_found(tmp_path: Path, columns: dict[str, list], keys: list[str]) -> None:
    """Bytes and names are found in every usual shape, and no name can leave the target."""
    assert _contents(_table(tmp_path / "a.parquet", columns)) == {keys[0]: b"0", keys[1]: b"1"}


def test_columns_can_be_named(tmp_path: Path) -> None:
    """With several columns of bytes the choice is the caller's; a wrong one is an error that lists them."""
    columns = {"front": [b"f"], "back": [b"b"], "code": ["c"], "id": ["i"]}
    file = _table(tmp_path / "a.parquet", columns)
    assert _contents(file, image_column="back", key_column="code") == {"c": b"b"}
    with pytest.raises(OptionError, match="--image-column"):
        list_photos(str(file))
    with pytest.raises(OptionError, match="--key-column"):
        list_photos(str(file), image_column="front", key_column="missing")


def test_rows_come_right_in_any_order(tmp_path: Path) -> None:
    """Rows of several groups and files, read forwards, backwards and by turns, are the rows that were written."""
    for name in "ab":
        values = [f"{name}{row}".encode() for row in range(100)]
        _table(tmp_path / "data" / f"{name}.parquet", {"image": values}, rows_per_group=40)
    listing = list_photos(str(tmp_path / "data"))
    assert len(listing.photos) == 200
    assert listing.photos[0].key == "a.parquet/00000000"
    expected = {photo.key: f"{photo.key[0]}{int(photo.name)}".encode() for photo in listing.photos}
    for photos in (listing.photos, listing.photos[::-1], listing.photos[::7] + listing.photos[3::11]):
        for photo in photos:
            assert listing.reader.read(photo.location, LIMITS) == expected[photo.key]


def test_bad_rows_are_told(tmp_path: Path) -> None:
    """A row without a photo and one with too large a photo fail alone."""
    listing = list_photos(str(_table(tmp_path / "a.parquet", {"image": [None, b"x" * 1001, b"good"]})))
    with pytest.raises(InputError, match="no photo"):
        listing.reader.read(listing.photos[0].location, LIMITS)
    with pytest.raises(ImageTooLargeError):
        listing.reader.read(listing.photos[1].location, LIMITS)
    assert listing.reader.read(listing.photos[2].location, LIMITS) == b"good"


def test_one_photo_of_each_sample(tmp_path: Path) -> None:
    """Photos are taken by their ending, other members are not, and links are never followed."""
    file = _tar(tmp_path / "a.tar", {"x/0.json": b"{}", "x/0.jpg": b"0", "x/0.png": b"mask", "x/1.seg.png": b"s"})
    with tarfile.open(file, "a") as archive:
        link = tarfile.TarInfo("2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert _contents(file) == {"x/0.jpg": b"0"}
    assert _contents(file, image_column="seg.png") == {"x/1.seg.png": b"s"}


def test_pickles_in_a_tar_are_never_read(tmp_path: Path) -> None:
    """A member that would run code when unpickled is passed over."""
    assert _contents(_tar(tmp_path / "a.tar", {"0.pkl": b"cos\nsystem\n", "0.pyd": b"x", "0.jpg": b"0"})) == {
        "0.jpg": b"0"
    }


def test_damaged_files_are_photos_that_fail(tmp_path: Path) -> None:
    """What comes before the damage is listed, and the damage itself is one entry that says why it fails."""
    _table(tmp_path / "tables" / "good.parquet", {"image": [b"0"]})
    (tmp_path / "tables" / "bad.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "tars").mkdir()
    whole = _tar(tmp_path / "tars" / "cut.tar", {"0.jpg": b"0", "1.jpg": b"x" * 2000}).read_bytes()
    (tmp_path / "tars" / "cut.tar").write_bytes(whole[:2048])
    _tar(tmp_path / "tars" / "container.tar", {"0.jpg": b"0"}, "w:gz")
    for folder, good, bad in (
        ("tables", {"good.parquet/00000000"}, {"bad.parquet/(damaged)"}),
        ("tars", {"cut.tar/0.jpg"}, {"cut.tar/(damaged)", "container.tar/(damaged)"}),
    ):
        listing = list_photos(str(tmp_path / folder))
        locations = {photo.key: photo.location for photo in listing.photos}
        assert set(locations) >= good | bad
        for key in bad:
            with pytest.raises(InputError, match=r"cannot be read|damaged"):
                listing.reader.read(locations[key], LIMITS)


def test_damage_within_a_table_is_no_photo(tmp_path: Path) -> None:
    """Where names cannot be read on, the entry that says so never stands for the first row."""
    file = tmp_path / "tables" / "a.parquet"
    file.parent.mkdir()
    table = pa.table({"image": [b"0", b"1"], "id": ["a", "b"]})
    pq.write_table(table, file, row_group_size=1, compression="none", use_dictionary=False)
    whole = file.read_bytes()
    place = pq.ParquetFile(file).metadata.row_group(1).column(1).data_page_offset
    file.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
    listing = list_photos(str(file.parent))
    locations = {photo.key: photo.location for photo in listing.photos}
    assert set(locations) == {"a.parquet/a", "a.parquet/(damaged)"}
    with pytest.raises(InputError, match="cannot be read"):
        listing.reader.read(locations["a.parquet/(damaged)"], LIMITS)
    file.write_bytes(whole)
    with pytest.raises(InputError, match="was damaged when it was listed"):
        listing.reader.read(locations["a.parquet/(damaged)"], LIMITS)


def test_equal_names_are_refused(tmp_path: Path) -> None:
    """Two rows of one name would be one result."""
    with pytest.raises(InputError, match="twice"):
        list_photos(str(_table(tmp_path / "a.parquet", {"image": [b"0", b"1"], "id": ["a", "a"]})))


def test_photos_come_before_files_of_photos(tmp_path: Path) -> None:
    """In a folder with photos, tars beside them are left alone; a pattern chooses them."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    _tar(tmp_path / "b.tar", {"0.jpg": b"0"})
    assert set(_contents(tmp_path)) == {"a.jpg"}
    assert set(_contents(tmp_path / "*.tar")) == {"b.tar/0.jpg"}


def test_tar_readers_travel(tmp_path: Path) -> None:
    """A reader is equal to itself after a journey to another process."""
    reader = list_photos(str(_tar(tmp_path / "b.tar", {"0.jpg": b"0"}))).reader
    assert isinstance(reader, TarSource)
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_large_groups_are_read_in_pieces(tmp_path: Path) -> None:
    """Reading a row group of 96 MB takes the memory of a few photos."""
    rows = [bytes([row]) * (1 << 20) for row in range(96)]
    table = pa.table({"image": rows})
    del rows
    file = tmp_path / "a.parquet"
    pq.write_table(table, file, write_batch_size=4, data_page_size=1 << 20, use_dictionary=False, compression="none")
    del table
    listing = list_photos(str(file))
    before, most = pa.total_allocated_bytes(), 0
    for row, photo in enumerate(listing.photos):
        assert listing.reader.read(photo.location, InputLimits())[:1] == bytes([row])
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 64 << 20
