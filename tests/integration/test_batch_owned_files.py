"""What the batch has made stays its own through failures, and what it has not made is not touched."""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.batches import batch_command, batch_environment, batch_rows, hash_of, run_batch_command, write_photos

psutil = pytest.importorskip("psutil")
pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.model

run = partial(run_batch_command, "--quality", "fast", "--no-report")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one photo, a.jpg."""
    folder = tmp_path / "photos"
    (name,) = write_photos(tmp_path / "made", 1)
    folder.mkdir()
    shutil.copy(tmp_path / "made" / name, folder / "a.jpg")
    return folder


def test_foreign_masks_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    """A mask that someone else has made is kept, as a result would be, until --overwrite is given."""
    target, masks = tmp_path / "out", tmp_path / "masks"
    masks.mkdir()
    (masks / "a.png").write_text("made by hand")
    code, _, told = run(photos, target, "--masks", masks)
    assert code == 1, told
    row = batch_rows(target)["a.jpg"]
    assert row["code"] == "output_exists" and "folder for masks" in row["reason"]
    assert (masks / "a.png").read_text() == "made by hand"
    assert not (target / "a.png").exists()
    assert run(photos, target, "--masks", masks, "--overwrite", "--retry-failed")[0] == 0
    assert (masks / "a.png").read_bytes().startswith(b"\x89PNG")


def test_masks_in_a_second_folder_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    """That a run has made masks elsewhere does not make those of another folder its own."""
    target, masks = tmp_path / "out", tmp_path / "masks"
    assert run(photos, target, "--masks", tmp_path / "first")[0] == 0
    masks.mkdir()
    (masks / "a.png").write_text("made by hand")
    assert run(photos, target, "--masks", masks)[0] == 1
    assert (masks / "a.png").read_text() == "made by hand"
    assert run(photos, target, "--masks", tmp_path / "second", "--retry-failed")[0] == 0
    assert (tmp_path / "second" / "a.png").read_bytes() == (tmp_path / "first" / "a.png").read_bytes()


def test_a_killed_job_knows_its_masks(tmp_path: Path) -> None:
    """Masks without a row are made again, also where the results were there before without masks."""
    photos, target, masks = tmp_path / "photos", tmp_path / "out", tmp_path / "masks"
    write_photos(photos, 8)
    assert run(photos, target)[0] == 0
    options = ("--masks", masks, "--reprocess", "--quality", "fast", "--no-report")
    with subprocess.Popen(batch_command(photos, target, *options), env=batch_environment()) as process:
        while not list(masks.rglob("*.png")) and process.poll() is None:
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    psutil.wait_procs(workers, timeout=60)
    code, summary, told = run(photos, target, *options)
    assert (code, summary["done"]) == (0, 8), told
    assert len(list(masks.rglob("*.png"))) == 8
    assert run(photos, target, *options)[1]["worked"] == 0


def test_a_photo_is_mended_after_a_failure(photos: Path, tmp_path: Path) -> None:
    """A photo that was broken for a while is done again, over its own earlier result and mask."""
    target, masks = tmp_path / "out", tmp_path / "masks"
    whole = (photos / "a.jpg").read_bytes()
    assert run(photos, target, "--masks", masks)[0] == 0
    first = batch_rows(target)["a.jpg"]
    for broken in (b"no photo", b"no photo either"):
        (photos / "a.jpg").write_bytes(broken)
        assert run(photos, target, "--masks", masks)[0] == 1
        row = batch_rows(target)["a.jpg"]
        assert row["status"] == "failed" and row["code"] != "output_exists"
        assert all(row[name] == first[name] for name in ("output_bytes", "output_sha256", "mask_bytes", "mask_sha256"))
    (photos / "a.jpg").write_bytes(whole)
    code, _, told = run(photos, target, "--masks", masks)
    assert code == 0, told
    assert batch_rows(target)["a.jpg"]["status"] == "ok"


def test_a_file_that_was_put_there_since_is_not_ours(photos: Path, tmp_path: Path) -> None:
    """After a failure, a file of another size in the place of the earlier result is someone else's."""
    target = tmp_path / "out"
    whole = (photos / "a.jpg").read_bytes()
    assert run(photos, target)[0] == 0
    (photos / "a.jpg").write_bytes(b"no photo")
    assert run(photos, target)[0] == 1
    (target / "a.png").write_text("made by hand")
    (photos / "a.jpg").write_bytes(whole)
    assert run(photos, target)[0] == 1
    assert (target / "a.png").read_text() == "made by hand"


def test_no_subject_leaves_no_earlier_result(photos: Path, tmp_path: Path) -> None:
    """Where the photo now shows nothing, neither cutout nor mask of what it showed before stays."""
    target, masks = tmp_path / "out", tmp_path / "masks"
    assert run(photos, target, "--masks", masks)[0] == 0
    assert (target / "a.png").exists() and (masks / "a.png").exists()
    Image.fromarray(np.full((240, 320, 3), 255, np.uint8)).save(photos / "a.jpg")
    code, summary, told = run(photos, target, "--masks", masks)
    assert (code, summary["no_subject"]) == (0, 1), told
    assert not (target / "a.png").exists() and not (masks / "a.png").exists()


def test_a_result_stays_ours_when_its_mask_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    """What was written before the failure is noted in the row of the failure."""
    target, masks = tmp_path / "out", tmp_path / "masks"
    (masks / "a.png").mkdir(parents=True)
    assert run(photos, target, "--masks", masks)[0] == 1
    written = hash_of((target / "a.png").read_bytes())
    (masks / "a.png").rmdir()
    code, _, told = run(photos, target, "--masks", masks, "--retry-failed")
    assert code == 0, told
    assert hash_of((target / "a.png").read_bytes()) == written


def test_names_in_capitals_block_beside_their_photos(tmp_path: Path) -> None:
    """A disk that takes a.PNG for a.png would else lose the photo to its own result."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(photos / "a.PNG")
    before = (photos / "a.PNG").read_bytes()
    code, _, told = run(f"{photos}/*.PNG", photos)
    assert code == 1, told
    assert "'a.PNG'" in batch_rows(photos)["a.PNG"]["reason"]
    assert (photos / "a.PNG").read_bytes() == before and not (photos / "a.png").exists()
