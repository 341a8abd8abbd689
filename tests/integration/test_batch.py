"""The batch on real files: what differs with Ray through a real Ray, the rest in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cutray.models.weights import resolve
from tests.batches import (
    batch_rows,
    hash_of,
    hashes_of,
    run_batch_command,
    shared_ray,
    write_photos,
)
from tests.conftest import require_weights

pytest.importorskip("ray")
pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 12)
    return folder


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    """Return what runs batches on one Ray, without refined edges: all but pixels is looked at."""
    with shared_ray() as address:
        yield partial(run_batch_command, "--quality", "fast", address=address)


run_here = partial(run_batch_command, "--quality", "fast")


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("finished")
    masks = target.with_name("masks")
    code, summary, told = run_batch_command(photos, target, "--masks", masks)
    assert code == 0, told
    assert summary["done"] == summary["worked"] == 12
    return target


def test_results_equal_those_of_the_library(photos: Path, finished: Path) -> None:
    """The batch and BackgroundRemover come to the same pixels."""
    from cutray import BackgroundRemover

    remover = BackgroundRemover("u2netp", threads=2)
    for source, row in batch_rows(finished).items():
        removal = remover.remove_background(photos / source)
        assert hash_of((finished / row["output"]).read_bytes()) == hash_of(removal.data)
        assert row["confidence"] == pytest.approx(removal.report.confidence)


def test_masks_and_report_are_written(finished: Path) -> None:
    """Each result has a mask of the same name, and the page shows pictures and needs no other file."""
    masks = finished.with_name("masks")
    assert set(hashes_of(masks)) == set(hashes_of(finished))
    page = (finished / "_cutray" / "report.html").read_text()
    assert page.count("data:image/webp;base64,") >= 12
    assert 'src="http' not in page
    assert "Model and settings" in page and "<td>u2netp</td>" in page


def test_second_run_does_only_what_is_missing(photos: Path, finished: Path, tmp_path: Path, run: Any) -> None:
    """Done photos stay; a deleted result, a touched and a changed photo are found, and only they are worked on."""
    sources, target = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, sources)
    assert run(sources, target)[0] == 0
    assert run(sources, target)[1]["worked"] == 0
    before = hashes_of(target)
    names = sorted(batch_rows(target))
    (target / batch_rows(target)[names[0]]["output"]).unlink()
    os.utime(sources / names[1])
    shutil.copy(sources / names[5], sources / names[2])
    code, summary, told = run(sources, target)
    assert code == 0, told
    assert (summary["worked"], summary["kept"]) == (3, 10)
    after = hashes_of(target)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {batch_rows(target)[names[2]]["output"]}
    assert run(sources, target)[1]["worked"] == 0


def test_hints_lie_beside_photos(photos: Path, tmp_path: Path) -> None:
    """A photo with a file of hints gives what the library gives with them, and is done again when they change."""
    from cutray import BackgroundRemover

    sources, target = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, sources)
    photo = min(path for path in sources.rglob("*") if path.is_file())
    name, hints = photo.relative_to(sources).as_posix(), photo.with_suffix(".hints.json")
    for drop in ("50%,50%", "20%,20%"):
        hints.write_text(json.dumps({"drop": drop}))
        code, summary, told = run_batch_command(sources, target)
        assert code == 0, told
        wanted = BackgroundRemover("u2netp", threads=2).remove_background(photo, drop=drop)
        assert hash_of((target / batch_rows(target)[name]["output"]).read_bytes()) == hash_of(wanted.data)
    assert summary["worked"] == 1


def test_bad_files_are_rows(photos: Path, tmp_path: Path, run: Any) -> None:
    """Exactly the planted files fail, each with a reason; how many are too many is the caller's choice."""
    sources, target = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, sources)
    planted = {"a/cut off.jpg", "empty.png", "text.webp", "gone.jpg"}
    whole = next(sources.rglob("*.jpg")).read_bytes()
    (sources / "a/cut off.jpg").write_bytes(whole[: len(whole) // 2])
    (sources / "empty.png").write_bytes(b"")
    (sources / "text.webp").write_text("no picture")
    listed = tmp_path / "photos" / "list.csv"
    paths = [path.relative_to(sources).as_posix() for path in sorted(sources.rglob("*.*")) if path != listed]
    listed.write_text("path\n" + "\n".join([*paths, "gone.jpg"]) + "\n")
    code, summary, told = run(listed, target)
    assert code == 1, told
    failed = {source: row for source, row in batch_rows(target).items() if row["status"] == "failed"}
    assert set(failed) == planted
    assert all(row["code"] and row["reason"] for row in failed.values())
    assert (summary["done"], summary["failed"]) == (12, 4)
    assert run(listed, target, "--max-failures", "30%", "--retry-failed")[0] == 0


def test_foreign_files_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    """What lies in the target and was made by someone else stays unless --overwrite is given."""
    target = tmp_path / "out"
    (target / "a").mkdir(parents=True)
    mine = target / "a" / "photo 000.png"
    mine.write_text("mine")
    code, summary, told = run_here(photos, target)
    assert code == 1, told
    assert mine.read_text() == "mine"
    assert summary["failed"] == 1
    assert batch_rows(target)["a/photo 000.jpg"]["code"] == "output_exists"
    assert run_here(photos, target, "--retry-failed", "--overwrite")[0] == 0
    assert mine.read_bytes().startswith(b"\x89PNG")


def test_other_settings_need_a_word(photos: Path, tmp_path: Path) -> None:
    """Results of two kinds never mix by accident; --reprocess replaces them all."""
    assert run_here(photos, tmp_path)[0] == 0
    before = hashes_of(tmp_path)
    code, _, told = run_here(photos, tmp_path, "--only-mask")
    assert code == 2
    assert "--reprocess" in told
    assert hashes_of(tmp_path) == before
    assert run_here(photos, tmp_path, "--only-mask", "--reprocess")[0] == 0
    assert not set(before.values()) & set(hashes_of(tmp_path).values())


def test_another_side_of_the_same_weights_needs_a_word(photos: Path, tmp_path: Path) -> None:
    """The description beside a file is part of what made the results."""
    require_weights("u2netp")
    path, target = tmp_path / "mine.onnx", tmp_path / "out"
    path.symlink_to(resolve("u2netp", offline=True).path)
    assert run_here(photos, target, model=path)[0] == 0
    path.with_suffix(".toml").write_text("input_size_px = 256")
    code, _, told = run_here(photos, target, model=path)
    assert code == 2
    assert "another model" in told and "--reprocess" in told


ODD_NAMES = (
    b"caf\xe9.jpg",
    b"caf%E9.jpg",
    b"line\nbreak.jpg",
    "n\u00e9.jpg".encode(),
    "ne\u0301.jpg".encode(),
    b"x" * 251 + b".jpg",
)


def test_odd_names_go_through_every_part(tmp_path: Path, run: Any) -> None:
    """Names that are not UTF-8, of several lines, too long or nearly equal reach files, shards, report and resume."""
    write_photos(tmp_path / "made", 1)
    photos, target, shards = tmp_path / "photos", tmp_path / "out", tmp_path / "shards"
    photos.mkdir()
    for name in ODD_NAMES:
        shutil.copy(next((tmp_path / "made").rglob("*.jpg")), photos / os.fsdecode(name))
    code, summary, told = run(photos, target, "--format", "webp")
    assert (code, summary.get("done")) == (0, len(ODD_NAMES)), told
    results = {os.fsencode(path.name) for path in target.glob("*.webp")}
    assert len(results) == len(ODD_NAMES) and {b"caf\xe9.webp", b"line\nbreak.webp"} <= results
    assert "line\\nbreak.jpg" in (target / "_cutray" / "report.html").read_text()
    assert run(photos, target, "--format", "webp")[1]["worked"] == 0
    code, summary, told = run(photos, shards, "--sink", "webdataset")
    assert (code, summary.get("done")) == (0, len(ODD_NAMES)), told
    with tarfile.open(shards / "shard-00000.tar") as archive:
        assert sum(name.endswith(".png") for name in archive.getnames()) == len(ODD_NAMES)


def test_own_results_among_the_photos_are_not_cut_out(photos: Path, finished: Path, tmp_path: Path) -> None:
    """A folder of photos with results of an earlier run in it gives a cutout of each photo and of no result."""
    sources = tmp_path / "mixed"
    shutil.copytree(photos, sources)
    shutil.copytree(finished, sources / "earlier", ignore=shutil.ignore_patterns("_cutray"))
    number = len([path for path in photos.rglob("*") if path.is_file()])
    code, summary, told = run_here(sources, tmp_path / "out")
    assert code == 0, told
    assert (summary["done"], summary["skipped"]) == (number, number)
    again = run_here(sources, tmp_path / "out", "--background", "white")
    assert again[0] == 2
    assert "another background (none then, white now)" in again[2]
