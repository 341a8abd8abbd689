"""Files that no batch has made are not replaced unasked; those that one has made stay its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from cutray.config import BatchSettings, RemoverSettings
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import Manifest, ManifestEntry
from pipelines.batch.photo import Photo
from pipelines.batch.plan import BatchPlan, make_plan
from pipelines.batch.storage import LocalStorage

PHOTO = Photo("a.jpg", "a.jpg", 10, 1000)
CHANGED = Photo("a.jpg", "a.jpg", 11, 1001)
DONE = ManifestEntry("a.png", "ok", 10, 1000, "in", 20, "out", None, None, None, "s1")
MASKED = DONE._replace(mask_bytes=5, mask_sha256="mask")
FAILED = DONE._replace(status="failed", source_sha256=None)


def _plan(
    entry: ManifestEntry | None,
    present: dict[str, int],
    masks: dict[str, int] | None = None,
    photo: Photo = PHOTO,
    masks_moved: bool = False,
    **more: Any,
) -> BatchPlan:
    folder = None if masks is None else "masks"
    job = BatchJob("photos", "cutouts", RemoverSettings(), BatchSettings(), folder, settings_hash="s1", **more)
    entries = {} if entry is None else {"a.jpg": entry}
    return make_plan([photo], {"a.jpg": "a.png"}, entries, present, masks or {}, job, masks_moved=masks_moved)


def test_foreign_mask_blocks() -> None:
    """A mask that no batch has made is not replaced unasked."""
    plan = _plan(None, {}, {"a.png": 7})
    assert (plan.tasks, plan.claims) == ([], [])
    assert plan.blocked[0].obstacle == "the file 'a.png' is in the folder for masks and was not made by a batch"
    assert len(_plan(None, {}, {"a.png": 7}, overwrite=True).tasks) == 1
    assert len(_plan(None, {}, {"b.png": 7}).tasks) == 1


@pytest.mark.parametrize(
    ("entry", "blocked"),
    [
        (MASKED, False),
        (MASKED._replace(settings_hash="s0"), False),
        (MASKED._replace(status="pending", settings_hash="s0"), False),
        (DONE._replace(status="pending", output_bytes=None), False),
        (DONE._replace(status="pending", output_bytes=None, settings_hash="s0"), True),
        (DONE._replace(settings_hash="s0"), True),
        (FAILED, True),
        (FAILED._replace(mask_bytes=7), False),
        (FAILED._replace(mask_bytes=6), True),
    ],
)
def test_mask_is_ours_when_a_run_has_claimed_it(entry: ManifestEntry, blocked: bool) -> None:
    """A run without masks has claimed none; one with the same settings has, even if it was killed."""
    plan = _plan(entry, {"a.png": 20}, {"a.png": 7}, photo=CHANGED, reprocess=True)
    assert (len(plan.blocked), len(plan.tasks)) == (blocked, not blocked)


def test_masks_in_another_folder_are_not_ours() -> None:
    """What was noted of a mask says nothing of another folder, unless a mask of the same size is there."""
    assert len(_plan(MASKED, {"a.png": 20}, {"a.png": 7}, masks_moved=True).blocked) == 1
    assert _plan(MASKED, {"a.png": 20}, {"a.png": 5}, masks_moved=True).kept == 1
    plan = _plan(MASKED, {"a.png": 20}, {}, masks_moved=True)
    assert len(plan.tasks) == len(plan.claims) == 1
    (task,) = _plan(MASKED, {"a.png": 20}, {"a.png": 5}, photo=CHANGED, masks_moved=True).tasks
    assert task.known_sha256 == "in"


def test_mask_is_claimed_before_it_is_written() -> None:
    """A killed job must not take its own masks for those of others; a claim replaces the row to be kept."""
    plan = _plan(DONE._replace(settings_hash="s0"), {"a.png": 20}, {}, reprocess=True)
    assert plan.claims == plan.tasks
    assert plan.tasks[0].known_sha256 is None
    assert _plan(MASKED, {"a.png": 20}, {"a.png": 5}, photo=CHANGED).claims == []


@pytest.mark.parametrize("name", ["A.PNG", "a.PNG", "A.png"])
def test_names_that_differ_in_case_block(name: str) -> None:
    """Some disks take both names for one file, which is often the photo itself."""
    (task,) = _plan(None, {name: 9}).blocked
    assert task.obstacle.startswith(f"the file {name!r} is in the target")
    (task,) = _plan(None, {}, {name: 9}).blocked
    assert task.obstacle.startswith(f"the file {name!r} is in the folder for masks")


def test_results_that_are_listed_otherwise_are_found() -> None:
    """A disk may keep the old spelling of a name that is written anew; the spelling that is meant comes first."""
    assert _plan(MASKED, {"A.PNG": 20}, {"a.PNG": 5}).kept == 1
    assert _plan(DONE, {"a.png": 20, "A.PNG": 9}).kept == 1
    assert _plan(DONE, {"a.png": 21, "A.PNG": 20}).kept == 0


@pytest.mark.parametrize(("size_bytes", "blocked"), [(20, False), (21, True)])
def test_result_of_a_photo_that_failed_is_ours(size_bytes: int, blocked: bool) -> None:
    """The result of earlier content stays ours while it is as noted; doing it again is claimed as usual."""
    plan = _plan(FAILED, {"a.png": size_bytes}, photo=CHANGED)
    assert (len(plan.blocked), len(plan.tasks), len(plan.claims)) == (blocked, not blocked, not blocked)


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        (MASKED, {"output_bytes": 20, "output_sha256": "out", "mask_bytes": 5, "mask_sha256": "mask"}),
        (FAILED, {"output_bytes": 20, "output_sha256": "out"}),
        (
            DONE._replace(status="pending", output_bytes=None, output_sha256=None),
            {"output_bytes": 20, "output_sha256": None, "mask_bytes": 5, "mask_sha256": None},
        ),
        (None, {}),
    ],
)
def test_what_is_left_is_noted(entry: ManifestEntry | None, left: dict[str, Any]) -> None:
    """Size and hash of our own files travel with the photo, so that the row of a failure can hold them."""
    plan = _plan(entry, {"a.png": 20}, {"a.png": 5}, photo=CHANGED, overwrite=True)
    row = plan.tasks[0].as_row()
    assert {name: value for name, value in row.items() if name in left} == left
    assert plan.tasks[0].left == left


def test_rows_of_masks_are_read_back(tmp_path: Path) -> None:
    """The hash of a mask is known in the next run."""
    manifest = Manifest(LocalStorage(str(tmp_path)))
    manifest.append([{"source": "a", "output": "a.png", "status": "ok", "mask_bytes": 5, "mask_sha256": "mask"}])
    assert manifest.entries()["a"].mask_sha256 == "mask"


def test_a_result_of_ones_own_is_done_when_it_is_named() -> None:
    """That its content has not changed is no reason to skip it once more."""
    skipped = DONE._replace(status="skipped", output_bytes=None, output_sha256=None)
    assert _plan(skipped, {}).tasks[0].known_sha256 is None
