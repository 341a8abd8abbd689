"""Batches from and to files that hold many photos: Parquet tables and WebDataset tars."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.batches import (
    batch_rows,
    hash_of,
    hashes_of,
    run_batch_command,
    served_bucket,
    shared_ray,
    write_photos,
    write_table,
    write_tar,
)

pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.model
FEW = ("--photos-per-shard", "4")
# Refined edges are nothing that shards are about.
FAST = ("--quality", "fast")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 12)
    return folder


@pytest.fixture(scope="module")
def names(photos: Path) -> list[str]:
    return sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    """Return what runs batches on one Ray."""
    with shared_ray() as address:
        yield partial(run_batch_command, *FAST, address=address)


@pytest.fixture(scope="module")
def files(photos: Path, run: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Key of each photo, and hash of its cutout as a file."""
    target = tmp_path_factory.mktemp("files")
    code, _, told = run(photos, target, "--no-report")
    assert code == 0, told
    return {source: hash_of((target / row["output"]).read_bytes()) for source, row in batch_rows(target).items()}


def test_table_to_table(photos: Path, names: list[str], files: dict[str, str], tmp_path: Path, run: Any) -> None:
    """Cutouts in a table are those of the files; a second run does nothing; a lost shard is made again, and only it."""
    source, target = tmp_path / "photos.parquet", tmp_path / "cutouts.parquet"
    write_table(photos, names, source)
    code, summary, told = run(source, target, *FEW, "--shard-masks")
    assert code == 0, told
    assert summary["done"] == 12
    table = pq.read_table(target)
    assert {row["key"]: hash_of(row["image"]) for row in table.to_pylist()} == files
    assert all(mask.startswith(b"\x89PNG") for mask in table.column("mask").to_pylist())
    assert (target / "_cutray" / "report.html").read_text().count("data:image/webp;base64,") >= 24
    before = hashes_of(target)
    assert sorted(before) == [f"photos-{number:05d}.parquet" for number in range(3)]
    assert run(source, target, *FEW, "--shard-masks")[1]["worked"] == 0
    (target / "photos-00001.parquet").unlink()
    summary = run(source, target, *FEW, "--shard-masks")[1]
    assert (summary["worked"], summary["done"]) == (4, 12)
    assert hashes_of(target) == before


def test_results_are_a_source_again(
    photos: Path, names: list[str], files: dict[str, str], tmp_path: Path, run: Any
) -> None:
    """Shards can be read back by the job itself, and end as the same files."""
    write_table(photos, names, tmp_path / "photos.parquet")
    assert run(tmp_path / "photos.parquet", tmp_path / "c.parquet", *FEW, "--no-report")[0] == 0
    code, summary, told = run(f"{tmp_path}/c.parquet/*.parquet", tmp_path / "masks", "--only-mask", "--no-report")
    assert code == 0, told
    assert summary["photos"] == len(files)


def test_tars_to_tars(photos: Path, names: list[str], files: dict[str, str], tmp_path: Path, run: Any) -> None:
    """Each tar becomes tars of its own; a photo that cannot be read is a row, and its neighbours are done."""
    write_tar(photos, names[:7], tmp_path / "in" / "a.tar")
    write_tar(photos, names[7:], tmp_path / "in" / "b.tar")
    with tarfile.open(tmp_path / "in" / "b.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("bad.jpg"))
    code, summary, told = run(tmp_path / "in", tmp_path / "out", *FEW, "--sink", "webdataset")
    assert code == 1, told
    assert (summary["done"], summary["failed"]) == (12, 1)
    assert sorted(hashes_of(tmp_path / "out")) == ["a-00000.tar", "a-00001.tar", "b-00000.tar", "b-00001.tar"]
    found = {}
    for shard in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.name.endswith(".png"):
                    data = archive.extractfile(member).read()  # type: ignore[union-attr]
                    found[f"{shard.name[0]}/{member.name}"] = hash_of(data)
    page = (tmp_path / "out" / "_cutray" / "report.html").read_text()
    assert page.count("data:image/webp;base64,") >= 24
    expected = {
        f"{'a' if index < 7 else 'b'}/{index if index < 7 else index - 7:04d}.png": files[name]
        for index, name in enumerate(names)
    }
    assert found == expected
    assert {row["code"] for key, row in batch_rows(tmp_path / "out").items() if key == "b.tar/bad.jpg"} != {None}
    again = run(tmp_path / "in", tmp_path / "out", *FEW, "--sink", "webdataset", "--max-failures", "1")
    assert (again[0], again[1]["worked"]) == (0, 0)


def test_touched_source_is_read_and_kept(photos: Path, names: list[str], tmp_path: Path, run: Any) -> None:
    """A file with a new time and the old content is read again, and nothing is computed or written."""
    source, target = tmp_path / "photos.tar", tmp_path / "out"
    write_tar(photos, names, source)
    options = (*FEW, "--sink", "webdataset", "--no-report")
    assert run(source, target, *options)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in target.glob("*.tar")}
    write_tar(photos, names, source)
    summary = run(source, target, *options)[1]
    assert (summary["worked"], summary["kept"]) == (12, 12)
    assert {path: path.stat().st_mtime_ns for path in target.glob("*.tar")} == before
    write_tar(photos, [*names[:11], names[8]], source)
    summary = run(source, target, *options)[1]
    assert (summary["worked"], summary["kept"]) == (12, 8)


def test_tables_in_buckets(
    photos: Path, names: list[str], files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and tars in a bucket become tables in a bucket, with the same cutouts."""
    with served_bucket(monkeypatch) as (store, uri):
        from pyarrow import fs

        write_table(photos, names[:6], tmp_path / "in" / "a.parquet")
        write_table(photos, names[6:], tmp_path / "in" / "b.parquet")
        fs.copy_files(str(tmp_path / "in"), "shop/in", destination_filesystem=store)
        source, target = uri("in"), uri("out.parquet")
        code, summary, told = run_batch_command(source, target, *FEW, *FAST)
        assert code == 0, told
        assert summary["done"] == 12
        table = pq.read_table("shop/out.parquet", filesystem=store)
        assert {row["key"]: hash_of(row["image"]) for row in table.to_pylist()} == files
        assert run_batch_command(source, target, *FEW, *FAST)[1]["worked"] == 0
        write_tar(photos, names, tmp_path / "tar" / "c.tar")
        fs.copy_files(str(tmp_path / "tar"), "shop/tar", destination_filesystem=store)
        code, summary, told = run_batch_command(uri("tar/c.tar"), tmp_path / "out.parquet", "--no-report", *FAST)
        assert code == 0, told
        assert sorted(hash_of(row["image"]) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()) == sorted(
            files.values()
        )
