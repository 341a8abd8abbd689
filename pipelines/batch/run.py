"""One batch from beginning to end: list, plan, claim, do, write down, sum up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from cutray.console.progress import download_progress, photo_progress
from cutray.errors import OutputError, OutputExistsError
from cutray.models.preset_networks import name_networks
from cutray.models.weights import resolve
from pipelines.batch.job import BatchJob
from pipelines.batch.local_workers import local_workers
from pipelines.batch.lock import exclusive_lock
from pipelines.batch.manifest import FOLDER, Manifest, ManifestEntry, PhotoStatus, read_job, write_job
from pipelines.batch.memory import reader_bytes
from pipelines.batch.names import name_outputs
from pipelines.batch.photo import Photo
from pipelines.batch.plan import BatchPlan, PhotoTask, hash_settings, make_plan, name_differences, pin_precision
from pipelines.batch.progress import BatchProgress, count_row, progress_line, summarise_batch
from pipelines.batch.ray_pool import ray_workers
from pipelines.batch.report import Pictures, report_page
from pipelines.batch.shards import SHARD_SUFFIXES, name_shards
from pipelines.batch.sources import Listing, list_photos
from pipelines.batch.storage import absolute_address
from pipelines.batch.storage_base import Reader

Observer = Callable[[Sequence[Mapping[str, Any]]], None]
_KEEP_AFTER_S = 5.0
_KEEP_AFTER_ROWS = 1000
_SAY_AFTER_S = 30.0
REPORT = f"{FOLDER}/report.html"


def run_batch(
    job: BatchJob, observe: Observer | None = None, early: subprocess.Popen[bytes] | None = None
) -> dict[str, Any]:
    """Cut out every photo of a source, once.

    Args:
        job: Source, target, settings, and what to do with what is there.
        observe: Is given rows of the manifest as soon as they are kept, some of them again after a crash.
        early: A process from ``early_worker`` that waits for work; without Ray alone.

    Returns:
        A summary that JSON can hold; ``ok`` says whether the job counts as done.

    Raises:
        InputError: The source cannot be listed or the manifest is damaged.
        OptionError: Choices contradict each other.
        ConfigError: Earlier results were made with other settings, or the cluster does not fit.
        WeightsError: The weights are unknown, damaged or not obtainable.
        EngineError: The workers cannot be kept alive.
        OutputError: The target cannot be written, or another job writes to it.
    """
    started = time.monotonic()
    job.check()
    listing = list_photos(
        job.source,
        exclude=[job.target, *([job.masks] if job.masks else [])],
        image_column=job.batch_settings.image_column,
        key_column=job.batch_settings.key_column,
    )
    job = _with_hashes(replace(_with_absolute_paths(job), skip_results=listing.from_folder))
    target = job.target_storage
    with exclusive_lock(target):
        _sweep(job)
        manifest = Manifest(target)
        entries = manifest.entries()
        job = replace(job, settings=pin_precision(job.settings, entries, job.settings_hash))
        plan = _plan(listing, entries, job)
        # Before the folder for masks is noted: no run may take what others have in a new one for its own.
        _claim(plan, manifest, job.settings_hash)
        facts = {
            "source": listing.reader.address,
            "model_sha256": job.model_sha256,
            "masks_address": _masks_address(job),
        }
        write_job(target, facts | job.settings.model_dump() | job.result_choices())
        progress = BatchProgress(kept=plan.kept, failed=plan.still_failed + len(plan.blocked))
        worked_s = 0.0
        if plan.tasks:
            worked_s = _work(plan, manifest, job, listing.reader, progress, observe, early)
            _sweep(job)
        rows = manifest.compact()
        rows = rows.filter(pc.is_in(rows.column("source"), pa.array([photo.key for photo in listing.photos])))
        elapsed_s = time.monotonic() - started
        summary = summarise_batch(job.batch_settings, len(listing.photos), rows, progress, worked_s, elapsed_s)
        if job.report:
            chosen = {"model": job.settings.model, "model_sha256": job.model_sha256}
            chosen |= job.settings.model_dump(exclude_defaults=True) | job.result_choices()
            page = report_page(rows, summary, chosen, Pictures(listing, target, job.settings))
            target.write(REPORT, page.encode(), overwrite=True)
    _tell(summary, progress, f"{target.address}/{REPORT}" if job.report else target.address)
    return summary


def _with_absolute_paths(job: BatchJob) -> BatchJob:
    """Make paths of results absolute: the actors of a cluster that is joined have another current folder."""
    masks = absolute_address(job.masks) if job.masks else job.masks
    return replace(job, target=absolute_address(job.target), masks=masks)


def _with_hashes(job: BatchJob) -> BatchJob:
    """Resolve the weights, downloading them if need be, and fill in the job's two hashes."""
    settings = name_networks(job.settings)
    with download_progress() as progress:
        weights = resolve(settings.model, offline=settings.offline, progress=progress)
    settings_hash = hash_settings(settings, weights.identity, job.result_choices())
    return replace(job, settings=settings, model_sha256=weights.identity, settings_hash=settings_hash)


def _sweep(job: BatchJob) -> None:
    """Remove what killed processes left unfinished."""
    for storage in job.storages():
        storage.sweep()


def _name_results(photos: Sequence[Photo], entries: Mapping[str, ManifestEntry], job: BatchJob) -> dict[str, str]:
    """Name the file that each photo's result goes to; names of earlier runs stay unless their format has changed."""
    if job.sink != "files":
        suffix = SHARD_SUFFIXES[job.sink]
        claimed = {key: entry.output for key, entry in entries.items() if entry.output.endswith(suffix)}
        return name_shards(photos, claimed, suffix, job.batch_settings.photos_per_shard)
    suffix = {"PNG": ".png", "JPEG": ".jpg"}.get(job.format, f".{job.format.lower()}")
    claimed = {key: entry.output for key, entry in entries.items() if entry.output.endswith(suffix)}
    return name_outputs((photo.key for photo in photos), claimed, suffix)


def _masks_address(job: BatchJob) -> str | None:
    """Address of the folder for masks, if there is one."""
    return job.mask_storage.address if job.mask_storage else None


def _plan(listing: Listing, entries: Mapping[str, ManifestEntry], job: BatchJob) -> BatchPlan:
    """Compare source, manifest and target, and say what will be done and why."""
    names = _name_results(listing.photos, entries, job)
    present = {file.name: file.size_bytes for file in job.target_storage.walk()}
    masks = {file.name: file.size_bytes for file in job.mask_storage.walk()} if job.mask_storage else {}
    noted = read_job(job.target_storage)
    plan = make_plan(
        listing.photos,
        names,
        entries,
        present,
        masks,
        job,
        lambda: name_differences(job, noted),
        masks_moved=noted.get("masks_address", _masks_address(job)) != _masks_address(job),
    )
    why = ", ".join(f"{number} {reason}" for reason, number in sorted(plan.reasons.items()))
    if listing.own_results:
        click.echo(f"{listing.own_results} results of Cutray beside their photos are left out", err=True)
    click.echo(f"{len(listing.photos)} photos: {plan.kept} done already, {why or 'nothing to do'}", err=True)
    if plan.still_failed:
        click.echo(f"{plan.still_failed} failed before; --retry-failed tries them again", err=True)
    return plan


def _claim(plan: BatchPlan, manifest: Manifest, fingerprint: str) -> None:
    """Note which names in the target are ours before any is written, and which are not."""
    rows = [_row(task, fingerprint) | {"status": PhotoStatus.PENDING} for task in plan.claims]
    for task in plan.blocked:
        error = OutputExistsError(
            got=task.obstacle,
            allowed="a name that is free",
            fix="add --overwrite and --retry-failed to replace it, or choose another folder",
        )
        rows.append(_row(task, fingerprint) | {"status": PhotoStatus.FAILED, "code": error.code, "reason": str(error)})
    manifest.append(rows)


def _row(task: PhotoTask, fingerprint: str) -> dict[str, Any]:
    """Begin a row of the manifest."""
    photo = task.photo
    return {
        **task.left,
        "source": photo.key,
        "output": task.output,
        "settings_hash": fingerprint,
        "source_bytes": photo.size_bytes if photo.size_bytes >= 0 else None,
        "source_modified_ns": photo.modified_ns if photo.modified_ns >= 0 else None,
        "finished_at": datetime.now(UTC),
    }


def _work(
    plan: BatchPlan,
    manifest: Manifest,
    job: BatchJob,
    reader: Reader,
    progress: BatchProgress,
    observe: Observer | None,
    early: subprocess.Popen[bytes] | None,
) -> float:
    """Have the tasks done, keep their rows as they come, and return how many seconds that took."""
    known = [task.photo.key for task in plan.tasks if task.known_sha256]
    earlier = manifest.rows_of(known) if known else {}
    shown = sys.stderr.isatty()
    workers = ray_workers if job.on_ray else partial(local_workers, early=early)
    held = reader_bytes(reader, (task.photo for task in plan.tasks))
    with workers(job, reader, held) as run_tasks, photo_progress(len(plan.tasks), shown=shown) as advance:
        started = time.monotonic()
        said = started
        try:
            for rows in run_tasks(_blocks(plan.tasks, job)):
                for row in rows:
                    count_row(row, earlier, progress)
                    advance(progress.failed, progress.refined_share)
                if progress.halted is not None:
                    break
                if time.monotonic() - progress.kept_at_s > _KEEP_AFTER_S or len(progress.waiting) >= _KEEP_AFTER_ROWS:
                    _keep(manifest, progress, observe)
                if not shown and time.monotonic() - said > _SAY_AFTER_S:
                    said = time.monotonic()
                    click.echo(progress_line(progress, len(plan.tasks), said - started), err=True)
        finally:
            worked_s = time.monotonic() - started
            _keep(manifest, progress, observe)
    if progress.halted is not None:
        raise OutputError(
            got=f"the job was stopped: {progress.halted}",
            fix="mend that and run the same command again; what is done is kept",
        )
    return worked_s


def _blocks(tasks: Sequence[PhotoTask], job: BatchJob) -> list[list[PhotoTask]]:
    """Divide the work into what one process does at a time: a few photos, or all of one shard."""
    if job.sink != "files":
        return [list(group) for _, group in groupby(tasks, key=lambda task: task.output)]
    step = job.batch_settings.photos_per_task
    return [list(tasks[start : start + step]) for start in range(0, len(tasks), step)]


def _keep(manifest: Manifest, progress: BatchProgress, observe: Observer | None) -> None:
    """Write the waiting rows down, and tell of them."""
    manifest.append(progress.waiting)
    if observe is not None:
        observe(progress.waiting)
    progress.waiting = []
    progress.kept_at_s = time.monotonic()


def _tell(summary: Mapping[str, Any], progress: BatchProgress, place: str) -> None:
    """Tell a person how it went and where to look."""
    rate = f" at {summary['photos_per_s']} photos/s" if summary["photos_per_s"] else ""
    skipped = f" {summary['skipped']} skipped as results of Cutray," if summary["skipped"] else ""
    click.echo(
        f"{summary['done']} done, {summary['no_subject']} without a subject,{skipped} {summary['failed']} failed;"
        f" this time {progress.worked} worked on{rate}, {progress.kept} kept. See {place}",
        err=True,
    )
