"""What a batch does otherwise on Windows: drives, backslashes, and what its system does not have."""

from __future__ import annotations

import io
import ntpath
import os
import tarfile
from pathlib import Path

import pytest

from cutray.config import BatchSettings, InputLimits, RemoverSettings
from cutray.errors import OutputError
from pipelines.batch import names
from pipelines.batch.names import name_outputs, safe_key
from pipelines.batch.sources import list_photos, read_photo
from pipelines.batch.storage import LocalStorage

pa = pytest.importorskip("pyarrow")
ESCAPES = ["C:\\photos\\a.png", "c:a.png", "/C:/a.png", "x/D:/a.png", "file:///C:/photos/a.png", "x/a.png:stream", "C:"]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have names treated as on Windows."""
    monkeypatch.setattr(names, "_ON_WINDOWS", True)


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.usefixtures("windows")
def test_no_name_leaves_the_target(path: str) -> None:
    """A drive in a name would lead to it, and a colon to a hidden stream of another file."""
    key = safe_key(path)
    joined = ntpath.join("E:\\out", key)
    assert joined.startswith("E:\\out\\") and ":" not in joined[2:]
    assert safe_key("C:\\photos\\a.png") == "photos/a.png"


@pytest.mark.skipif(os.name == "nt", reason="colons are part of names elsewhere")
def test_names_stay_elsewhere() -> None:
    """Results that are there keep their names."""
    assert safe_key("10:30.jpg") == "10:30.jpg"
    assert safe_key("C:/a.jpg") == "C:/a.jpg"


@pytest.mark.usefixtures("windows")
def test_members_of_a_tar_stay_in_the_target(tmp_path: Path) -> None:
    """A tar may name its members with a drive."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("C:\\photos\\a.jpg")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    (photo,) = list_photos(str(tmp_path / "a.tar")).photos
    assert name_outputs([photo.key], {}, ".png") == {photo.key: "photos/a.png"}


@pytest.mark.parametrize(
    "name", ["/elsewhere.png", "{folder}/elsewhere.png", "../elsewhere.png", "x/../../elsewhere.png"]
)
def test_nothing_is_written_outside_a_folder(tmp_path: Path, name: str) -> None:
    """Whatever a manifest or a list says, results stay in their folder; photos may be read from anywhere."""
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(b"photo")
    storage = LocalStorage(str(tmp_path / "out"))
    name = name.format(folder=tmp_path)
    for change in (
        lambda: storage.write(name, b"result", overwrite=True),
        lambda: storage.create(name),
        lambda: storage.delete(name),
    ):
        with pytest.raises(OutputError, match="leads out"):
            change()
    assert elsewhere.read_bytes() == b"photo"
    assert storage.read(str(elsewhere), InputLimits()) == b"photo"


@pytest.mark.usefixtures("windows")
def test_patterns_and_lists_are_found_behind_backslashes(tmp_path: Path) -> None:
    """A pattern is split at backslashes, and entries of a list are relative to its folder."""
    photos = tmp_path / "photos"
    (photos / "x").mkdir(parents=True)
    (photos / "x" / "a.jpg").write_bytes(b"a")
    (photos / "list.csv").write_text("path\nx/a.jpg\n")
    for source, key in (("photos\\x\\*.jpg", "a.jpg"), ("photos\\list.csv", "x/a.jpg")):
        listing = list_photos(f"{tmp_path}\\{source}")
        assert [photo.key for photo in listing.photos] == [key]
        assert read_photo(listing.reader, listing.photos[0].location, InputLimits()) == b"a"


@pytest.mark.skipif(os.name == "nt", reason="a backslash separates there")
def test_backslashes_stay_in_names_elsewhere(tmp_path: Path) -> None:
    """Where a backslash is part of a name, a list in a folder of such a name is found."""
    folder = tmp_path / "back\\slash"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "list.csv").write_text("path\na.jpg\n")
    for source in ("list.csv", "*.jpg"):
        assert [photo.key for photo in list_photos(f"{folder}/{source}").photos] == ["a.jpg"]


@pytest.mark.usefixtures("windows")
def test_target_inside_the_source_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real paths have backslashes there; results are no photos all the same."""
    (tmp_path / "out").mkdir()
    for name in ("a.jpg", "out/a.png"):
        (tmp_path / name).write_bytes(b"x")
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: real(path).replace("/", "\\"))
    listing = list_photos(str(tmp_path), exclude=[str(tmp_path / "out")])
    assert [photo.key for photo in listing.photos] == ["a.jpg"]


@pytest.mark.usefixtures("windows")
def test_a_target_that_ends_in_a_backslash_is_a_table() -> None:
    """The shell completes names of folders with one."""
    from pipelines.batch.job import BatchJob

    assert BatchJob("photos", "cutouts.parquet\\", RemoverSettings(), BatchSettings()).sink == "parquet"


def test_a_batch_locks_without_a_flag_that_windows_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What closes a file in child processes has no flag there."""
    from pipelines.batch.lock import exclusive_lock

    monkeypatch.delattr(os, "O_CLOEXEC", raising=False)
    with exclusive_lock(LocalStorage(str(tmp_path))):
        assert (tmp_path / "_cutray" / "lock").exists()
