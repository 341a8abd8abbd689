"""One batch from beginning to end: list, plan, claim, do, write down, sum up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from cutray.chain import output_format
from cutray.config import BatchSettings, RemoverSettings
from cutray.console.progress import download_progress, photo_progress
from cutray.errors import OptionError, OutputError, OutputExistsError
from cutray.models.weights import resolve
from pipelines.batch.cluster import ray_cluster, run_tasks
from pipelines.batch.lock import sole_writer
from pipelines.batch.manifest import FOLDER, Entry, Manifest, write_job
from pipelines.batch.orders import Orders
from pipelines.batch.photo import Photo
from pipelines.batch.plan import Plan, Rules, Task, carry_on, hash_settings, make_plan
from pipelines.batch.report import Pictures, report_page
from pipelines.batch.shards import SHARD_SUFFIXES, name_shards
from pipelines.batch.sources import Listing, list_photos, name_outputs
from pipelines.batch.storage import Storage, open_storage
from pipelines.batch.tally import Tally, count_row, progress_line, summarise_batch

_KEEP_AFTER_S = 5.0
_KEEP_AFTER_ROWS = 1000
_SAY_AFTER_S = 30.0
REPORT = f"{FOLDER}/report.html"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller asked for beside the settings; see ``cutray batch --help``."""

    source: str
    target: str
    masks: str | None = None
    shard_masks: bool = False
    retry_failed: bool = False
    reprocess: bool = False
    verify: bool = False
    overwrite: bool = False
    allow_empty: bool = False
    report: bool = True


def run_batch(wishes: Wishes, settings: RemoverSettings, spread: BatchSettings) -> dict[str, Any]:
    """Cut out every photo of a source, once.

    Args:
        wishes: Source, target, and what to do with what is there.
        settings: How to cut out.
        spread: Actors, cluster, limits.

    Returns:
        A summary that JSON can hold; ``ok`` says whether the job counts as done.

    Raises:
        InputError: The source cannot be listed or the manifest is damaged.
        ConfigError: Earlier results were made with other settings, or the cluster does not fit.
        WeightsError: The weights are unknown, damaged or not obtainable.
        EngineError: The actors cannot be kept alive.
        OutputError: The target cannot be written, or another job writes to it.
    """
    started = time.monotonic()
    format_name = output_format(settings, None)
    sink = _sink(wishes, spread)
    places = _Places.open(wishes)
    listing = list_photos(
        wishes.source,
        exclude=[wishes.target, *([wishes.masks] if wishes.masks else [])],
        image_column=spread.image_column,
        key_column=spread.key_column,
    )
    with download_progress() as progress:
        weights = resolve(settings.model, offline=settings.offline, progress=progress)
    extras = {"format": format_name, "masks": places.masks is not None, "allow_empty": wishes.allow_empty}
    extras |= {} if sink == "files" else {"sink": sink, "shard_masks": wishes.shard_masks}
    fingerprint = hash_settings(settings, weights.sha256, extras)
    with sole_writer(places.target):
        places.sweep()
        manifest = Manifest(places.target)
        entries = manifest.entries()
        settings = carry_on(settings, entries, fingerprint)
        rules = Rules(
            fingerprint,
            retry_failed=wishes.retry_failed,
            reprocess=wishes.reprocess,
            verify=wishes.verify,
            overwrite=wishes.overwrite,
            with_masks=places.masks is not None,
            precision=settings.precision,
        )
        plan = _plan(listing, entries, places, rules, _naming(sink, format_name, spread))
        write_job(places.target, {"source": listing.reader.address, **settings.model_dump(), **extras})
        _claim(plan, manifest, fingerprint)
        tally = Tally(kept=plan.kept, failed=plan.still_failed + len(plan.blocked))
        worked_s = 0.0
        if plan.tasks:
            orders = Orders(
                settings,
                format_name.lower(),
                listing.reader,
                places.target,
                places.masks,
                sink,
                wishes.shard_masks,
                wishes.allow_empty,
                fingerprint,
                weights.sha256,
                spread.max_crashes,
            )
            worked_s = _work(plan, manifest, orders, spread, tally)
            places.sweep()
        rows = manifest.compact()
        rows = rows.filter(pc.is_in(rows.column("source"), pa.array([photo.key for photo in listing.photos])))
        summary = summarise_batch(spread, len(listing.photos), rows, tally, worked_s, time.monotonic() - started)
        if wishes.report:
            page = report_page(rows, summary, Pictures(listing, places.target, settings))
            places.target.write(REPORT, page.encode(), overwrite=True)
    _tell(summary, tally, places.target)
    return summary


@dataclass(frozen=True, slots=True)
class _Places:
    """Where results and masks go."""

    target: Storage
    masks: Storage | None

    @classmethod
    def open(cls, wishes: Wishes) -> _Places:
        """Refuse places that would mix photos, results and masks."""
        target = open_storage(wishes.target)
        masks = open_storage(wishes.masks) if wishes.masks else None
        addresses = [open_storage(wishes.source).address, target.address, *([masks.address] if masks else [])]
        if len(set(addresses)) < len(addresses):
            raise OptionError(
                got="one folder for photos, results or masks", allowed="a folder for each", fix="choose another one"
            )
        return cls(target, masks)

    def sweep(self) -> None:
        """Remove what killed processes left unfinished."""
        for storage in (self.target, self.masks):
            if storage is not None:
                storage.sweep()


_Naming = Callable[[Sequence[Photo], Mapping[str, str]], dict[str, str]]


def _sink(wishes: Wishes, spread: BatchSettings) -> str:
    """Settle where results go, and refuse masks where there is no place for them."""
    ends = wishes.target.partition("?")[0].rstrip("/").lower().endswith(".parquet")
    sink = spread.sink if spread.sink != "auto" else "parquet" if ends else "files"
    if (wishes.shard_masks and sink == "files") or (wishes.masks and sink != "files"):
        raise OptionError(
            got=f"{'--shard-masks' if wishes.shard_masks else '--masks'} with the sink {sink}",
            allowed="--masks FOLDER with files, --shard-masks with parquet and webdataset",
            fix="use the other one",
        )
    return sink


def _naming(sink: str, format_name: str, spread: BatchSettings) -> tuple[str, _Naming]:
    """Return the ending of the target's files and what names them."""
    if sink != "files":
        suffix = SHARD_SUFFIXES[sink]
        return suffix, partial(name_shards, suffix=suffix, most=spread.photos_per_shard)
    suffix = {"PNG": ".png", "JPEG": ".jpg"}.get(format_name, f".{format_name.lower()}")
    return suffix, lambda photos, claimed: name_outputs((photo.key for photo in photos), claimed, suffix)


def _plan(
    listing: Listing, entries: Mapping[str, Entry], places: _Places, rules: Rules, naming: tuple[str, _Naming]
) -> Plan:
    """Compare source, manifest and target, and say what will be done and why."""
    suffix, name_all = naming
    names = name_all(listing.photos, {key: one.output for key, one in entries.items() if one.output.endswith(suffix)})
    present = {found.name: found.size_bytes for found in places.target.walk()}
    masks = {found.name: found.size_bytes for found in places.masks.walk()} if places.masks else {}
    plan = make_plan(listing.photos, names, entries, present, masks, rules)
    why = ", ".join(f"{number} {reason}" for reason, number in sorted(plan.reasons.items()))
    click.echo(f"{len(listing.photos)} photos: {plan.kept} done already, {why or 'nothing to do'}", err=True)
    if plan.still_failed:
        click.echo(f"{plan.still_failed} failed before; --retry-failed tries them again", err=True)
    return plan


def _claim(plan: Plan, manifest: Manifest, fingerprint: str) -> None:
    """Note which names in the target are ours before any is written, and which are not."""
    rows = [_row(task, fingerprint) | {"status": "pending"} for task in plan.claims]
    for task in plan.blocked:
        error = OutputExistsError(
            got=f"the file {task.output!r} is in the target and was not made by a batch",
            allowed="a name that is free",
            fix="add --overwrite and --retry-failed to replace it, or choose another target",
        )
        rows.append(_row(task, fingerprint) | {"status": "failed", "code": error.code, "reason": str(error)})
    manifest.append(rows)


def _row(task: Task, fingerprint: str) -> dict[str, Any]:
    """Begin a row of the manifest."""
    photo = task.photo
    return {
        "source": photo.key,
        "output": task.output,
        "settings_hash": fingerprint,
        "source_bytes": photo.size_bytes if photo.size_bytes >= 0 else None,
        "source_modified_ns": photo.modified_ns if photo.modified_ns >= 0 else None,
        "finished_at": datetime.now(UTC),
    }


def _work(plan: Plan, manifest: Manifest, orders: Orders, spread: BatchSettings, tally: Tally) -> float:
    """Have the tasks done, keep their rows as they come, and return how many seconds that took."""
    known = [task.photo.key for task in plan.tasks if task.known_sha256]
    earlier = manifest.rows_of(known) if known else {}
    shown = sys.stderr.isatty()
    with ray_cluster(spread) as pool, photo_progress(len(plan.tasks), shown=shown) as advance:
        started = time.monotonic()
        said = started
        try:
            for rows in run_tasks(_blocks(plan.tasks, orders.sink, spread), pool, orders):
                for row in rows:
                    count_row(row, earlier, tally)
                    advance(tally.failed, tally.refined_share)
                if tally.halted is not None:
                    break
                if time.monotonic() - tally.kept_at_s > _KEEP_AFTER_S or len(tally.waiting) >= _KEEP_AFTER_ROWS:
                    _keep(manifest, tally)
                if not shown and time.monotonic() - said > _SAY_AFTER_S:
                    said = time.monotonic()
                    click.echo(progress_line(tally, len(plan.tasks), said - started), err=True)
        finally:
            worked_s = time.monotonic() - started
            _keep(manifest, tally)
    if tally.halted is not None:
        raise OutputError(
            got=f"the job was stopped: {tally.halted}",
            fix="mend that and run the same command again; what is done is kept",
        )
    return worked_s


def _blocks(tasks: Sequence[Task], sink: str, spread: BatchSettings) -> list[list[Task]]:
    """Divide the work into what one process does at a time: a few photos, or all of one shard."""
    if sink != "files":
        return [list(group) for _, group in groupby(tasks, key=lambda task: task.output)]
    step = spread.photos_per_task
    return [list(tasks[start : start + step]) for start in range(0, len(tasks), step)]


def _keep(manifest: Manifest, tally: Tally) -> None:
    """Write the waiting rows down."""
    manifest.append(tally.waiting)
    tally.waiting = []
    tally.kept_at_s = time.monotonic()


def _tell(summary: Mapping[str, Any], tally: Tally, target: Storage) -> None:
    """Tell a person how it went and where to look."""
    rate = f" at {summary['photos_per_s']} photos/s" if summary["photos_per_s"] else ""
    click.echo(
        f"{summary['done']} done, {summary['no_subject']} without a subject, {summary['failed']} failed; this time"
        f" {tally.worked} worked on{rate}, {tally.kept} kept. See {target.address}/{REPORT}",
        err=True,
    )
