"""The manifest keeps rows through crashes, and the plan follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from cutray.config import BatchSettings, RemoverSettings
from cutray.errors import ConfigError, InputError, OptionError, OutputError
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import FOLDER, MANIFEST, Manifest, ManifestEntry, read_job, write_job
from pipelines.batch.photo import Photo
from pipelines.batch.plan import BatchPlan, hash_settings, make_plan, name_differences, pin_precision
from pipelines.batch.report import Pictures, report_page
from pipelines.batch.sources import Listing
from pipelines.batch.storage import LocalStorage

PHOTO = Photo("a.jpg", "a.jpg", 10, 1000)
DONE = ManifestEntry("a.png", "ok", 10, 1000, "in", 20, "out", None, None, None, "s1")


def _row(source: str, status: str, **more: object) -> dict[str, object]:
    return {"source": source, "output": f"{source}.png", "status": status, **more}


def _plan(
    entry: ManifestEntry | None,
    photo: Photo = PHOTO,
    present: dict[str, int] | None = None,
    precision: str = "auto",
    **more: Any,
) -> BatchPlan:
    settings = RemoverSettings(precision=precision)
    job = BatchJob("photos", "cutouts", settings, BatchSettings(), settings_hash="s1", **more)
    entries = {} if entry is None else {"a.jpg": entry}
    present = {"a.png": 20} if present is None else present
    return make_plan([photo], {"a.jpg": "a.png"}, entries, present, {}, job)


def test_last_row_of_a_photo_counts(tmp_path: Path) -> None:
    """Rows are appended; what was written later wins, before and after compaction and in a new process."""
    manifest = Manifest(LocalStorage(str(tmp_path)))
    manifest.append([_row("a", "pending"), _row("b", "pending")])
    manifest.append([_row("a", "ok", output_bytes=7)])
    for reader in (manifest, Manifest(LocalStorage(str(tmp_path)))):
        assert {key: entry.status for key, entry in reader.entries().items()} == {"a": "ok", "b": "pending"}
    manifest.compact()
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["manifest.parquet"]
    again = Manifest(LocalStorage(str(tmp_path)))
    again.append([_row("b", "failed", code="x")])
    assert {key: entry.status for key, entry in again.entries().items()} == {"a": "ok", "b": "failed"}


def test_names_of_earlier_versions_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """A name that looks like an escape was written as it is once; it keeps its row, through compaction too."""
    old = [_row("caf%E9.jpg", "ok"), _row("50%25.jpg", "ok"), _row("plain.jpg", "ok")]
    (tmp_path / FOLDER).mkdir()
    pq.write_table(pa.Table.from_pylist(old), tmp_path / MANIFEST)
    manifest = Manifest(LocalStorage(str(tmp_path)))
    manifest.append([_row("new%E9.jpg", "ok")])
    wanted = {"caf%25E9.jpg", "50%2525.jpg", "plain.jpg", "new%E9.jpg"}
    for _ in range(2):
        entries = Manifest(LocalStorage(str(tmp_path))).entries()
        assert {key: entry.output for key, entry in entries.items()} == {key: f"{key}.png" for key in wanted}
        manifest.compact()


def test_crash_between_compaction_and_clean_up_is_harmless(tmp_path: Path) -> None:
    """Parts that stay behind beside the compacted file change nothing."""
    storage = LocalStorage(str(tmp_path))
    manifest = Manifest(storage)
    manifest.append([_row("a", "pending")])
    manifest.append([_row("a", "ok")])
    last = (tmp_path / FOLDER / "part-00000002.parquet").read_bytes()
    manifest.compact()
    (tmp_path / FOLDER / "part-00000002.parquet").write_bytes(last)
    again = Manifest(storage)
    assert again.table().num_rows == 1
    again.append([_row("a", "failed")])
    assert again.entries()["a"].status == "failed"


def test_damaged_manifest_is_named(tmp_path: Path) -> None:
    """A file that is no Parquet is an error that says which one, and never an empty manifest."""
    storage = LocalStorage(str(tmp_path))
    storage.write(MANIFEST, b"PAR1 not really", overwrite=True)
    with pytest.raises(InputError, match="is damaged"):
        Manifest(storage).entries()


def test_done_photo_is_left_alone() -> None:
    """Nothing is done twice when source, settings and result are as noted."""
    plan = _plan(DONE)
    assert (plan.kept, plan.tasks, plan.blocked) == (1, [], [])


@pytest.mark.parametrize(
    ("entry", "photo", "present", "reason"),
    [
        (None, PHOTO, {}, "new"),
        (DONE._replace(status="pending"), PHOTO, {"a.png": 3}, "unfinished"),
        (DONE, Photo("a.jpg", "a.jpg", 11, 1000), None, "source changed"),
        (DONE, Photo("a.jpg", "a.jpg", 10, 1001), None, "source changed"),
        (DONE, PHOTO, {}, "result missing or altered"),
        (DONE, PHOTO, {"a.png": 19}, "result missing or altered"),
        (DONE._replace(status="failed"), Photo("a.jpg", "a.jpg", 11, 1000), {}, "source changed"),
    ],
)
def test_what_is_not_done_is_found(
    entry: ManifestEntry | None, photo: Photo, present: dict[str, int] | None, reason: str
) -> None:
    """Every way of not being done leads to work, with its reason."""
    plan = _plan(entry, photo, present)
    assert list(plan.reasons) == [reason]
    assert len(plan.tasks) == 1


def test_failed_photo_waits_to_be_retried() -> None:
    """A failure stays one until asked otherwise."""
    failed = DONE._replace(status="failed")
    assert _plan(failed, present={}).still_failed == 1
    assert len(_plan(failed, present={}, retry_failed=True).tasks) == 1


def test_other_settings_are_refused_until_confirmed() -> None:
    """A changed option never makes a target a mixture by accident."""
    other = DONE._replace(settings_hash="s0")
    with pytest.raises(ConfigError, match="--reprocess"):
        _plan(other)
    task = _plan(other, reprocess=True).tasks[0]
    assert task.known_sha256 is None


def test_foreign_file_blocks() -> None:
    """A file that no batch has made is not replaced unasked."""
    assert len(_plan(None).blocked) == 1
    assert _plan(None).tasks == []
    assert len(_plan(None, overwrite=True).tasks) == 1


def test_hash_follows_what_changes_pixels(tmp_path: Path) -> None:
    """Options that change results change the hash; those that change speed do not; backgrounds count by content."""
    base = hash_settings(RemoverSettings(), "m", {})
    assert hash_settings(RemoverSettings(threads=3, batch_size=2, precision="fp32"), "m", {}) == base
    assert hash_settings(RemoverSettings(max_megapixels=200, streams=2, edge_cases=True), "m", {}) == base
    assert hash_settings(RemoverSettings(crop=True), "m", {}) != base
    assert hash_settings(RemoverSettings(), "other", {}) != base
    picture = tmp_path / "b.png"
    picture.write_bytes(b"1")
    first = hash_settings(RemoverSettings(background=str(picture)), "m", {})
    picture.write_bytes(b"2")
    assert hash_settings(RemoverSettings(background=str(picture)), "m", {}) != first


def test_number_format_stays() -> None:
    """Left to itself, the precision stays that of the results so far; asking for another one takes --reprocess."""
    done = DONE._replace(engine="openvino cpu int8")
    assert done.precision == "int8"
    assert pin_precision(RemoverSettings(), {"a.jpg": done}, "s1").precision == "int8"
    assert pin_precision(RemoverSettings(), {"a.jpg": done}, "s2").precision == "auto"
    assert pin_precision(RemoverSettings(precision="fp32"), {"a.jpg": done}, "s1").precision == "fp32"
    assert not _plan(done, precision="int8").tasks
    with pytest.raises(ConfigError, match="--reprocess"):
        _plan(done, precision="fp32")
    (task,) = _plan(done, precision="fp32", reprocess=True).tasks
    assert task.known_sha256 is None


def test_failed_photos_of_a_shard_have_no_number_format() -> None:
    """A photo that never came to the network does not make the shard that it is a row of a stranger's."""
    failed = DONE._replace(status="failed", engine=None, shard_bytes=7, shard_sha256="s")
    assert "other settings" not in _plan(failed, precision="int8").reasons


def test_the_settings_that_differ_are_named(tmp_path: Path) -> None:
    """An error about other settings says which, and what they were."""
    storage = LocalStorage(str(tmp_path))
    before = BatchJob("photos", str(tmp_path), RemoverSettings(), BatchSettings(), model_sha256="m1")
    write_job(storage, before.settings.model_dump() | before.result_choices() | {"model_sha256": "m1"})
    now = replace(before, settings=RemoverSettings(background="white", crop=True, threads=3), masks="masks")
    assert name_differences(now, read_job(storage)) == [
        "another background (none then, white now)",
        "another crop (False then, True now)",
        "another masks (False then, True now)",
    ]
    assert name_differences(before, read_job(storage)) == []
    assert name_differences(before, {}) == []
    (model,) = name_differences(replace(before, model_sha256="m2"), read_job(storage))
    assert "other weights" in model


def test_a_result_of_ones_own_stays_skipped_until_it_is_named() -> None:
    """What a folder run has passed over is done when a pattern names it, whatever the settings were."""
    skipped = DONE._replace(status="skipped", output_bytes=None, settings_hash="s0")
    assert _plan(skipped, present={}, skip_results=True).kept == 1
    assert len(_plan(skipped, present={}).tasks) == 1


@pytest.mark.parametrize(
    "settings", [{"background": "pupple"}, {"background": "missing.png"}, {"format": "jpeg", "bit_depth": 16}]
)
def test_what_is_wrong_for_all_photos_is_told_first(settings: dict[str, Any], tmp_path: Path) -> None:
    """A misspelt background or a format that cannot hold the result is an error before anything is started."""
    job = BatchJob(str(tmp_path), str(tmp_path / "out"), RemoverSettings(**settings), BatchSettings())
    with pytest.raises(OptionError):
        job.check()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("empty", ["source", "target", "masks"])
def test_empty_names_are_not_the_current_folder(empty: str, tmp_path: Path) -> None:
    """A variable of the shell that is not set must not stand for the folder that the batch is started in."""
    folders = {name: str(tmp_path / name) for name in ("source", "target", "masks")} | {empty: ""}
    job = BatchJob(settings=RemoverSettings(), batch_settings=BatchSettings(), **folders)
    with pytest.raises(OptionError, match="empty name"):
        job.check()


def test_a_target_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    """A file in the way of the target is an error before anything is started."""
    (tmp_path / "file").touch()
    job = BatchJob(str(tmp_path), str(tmp_path / "file" / "out"), RemoverSettings(), BatchSettings())
    with pytest.raises(OutputError, match="not a folder"):
        job.check()


def test_the_page_names_model_and_settings(tmp_path: Path) -> None:
    """Whoever finds the page later can tell what its pictures were made with; no name is taken for HTML."""
    manifest = Manifest(LocalStorage(str(tmp_path)))
    manifest.append([_row("<i>.jpg", "failed", code="decode_error", reason="no picture")])
    listing = Listing(LocalStorage(str(tmp_path)), [PHOTO])
    pictures = Pictures(listing, LocalStorage(str(tmp_path)), RemoverSettings())
    page = report_page(manifest.table(), {"photos": 1}, {"model": "u2netp", "background": "white"}, pictures)
    assert "<td>model</td><td>u2netp</td>" in page and "<td>background</td><td>white</td>" in page
    assert "&lt;i&gt;.jpg" in page and "<i>" not in page
