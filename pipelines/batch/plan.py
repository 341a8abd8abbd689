"""Decides what is left to do: new photos, changed ones, unfinished ones; what is done and verified is left alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cutray.config import RemoverSettings, fingerprint, result_values
from cutray.errors import ConfigError
from cutray.imaging.files import read_bytes
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import ManifestEntry, PhotoStatus
from pipelines.batch.names import mask_name
from pipelines.batch.owned_files import LEFT_COLUMNS, FolderFiles, OwnedFiles
from pipelines.batch.photo import Photo

# The weights' hash stands for the model. The precision changes a result, but "auto" says nothing of it: each row has
# the one that was in effect.
_IDENTIFIED_OTHERWISE = ("model", "precision")


@dataclass(frozen=True, slots=True)
class PhotoTask:
    """One photo to do.

    Attributes:
        photo: The photo.
        output: Name of its result.
        known_sha256: Hash of the content that the present result was made from; equal content is not done again.
        known_output_sha256: Hash that the present result should have, or the file that holds it with others.
        left: Size and hash of what earlier runs have left under its names, as columns of the manifest.
        obstacle: Which file of others would be replaced, or nothing.
    """

    photo: Photo
    output: str
    known_sha256: str | None = None
    known_output_sha256: str | None = None
    left: Mapping[str, Any] = field(default_factory=dict)
    obstacle: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return the form in which it travels to the processes that do the work."""
        photo = self.photo
        return {
            "key": photo.key,
            "location": photo.location,
            "hints": photo.hints,
            "size_bytes": photo.size_bytes,
            "name": photo.name,
            "modified_ns": photo.modified_ns,
            "output": self.output,
            "known_sha256": self.known_sha256,
            "known_output_sha256": self.known_output_sha256,
            **{name: self.left.get(name) for name in LEFT_COLUMNS},
        }


# Has blocks of tasks done, and yields rows as they come; ``ray_workers`` and ``local_workers`` provide it.
RunTasks = Callable[[Sequence[Sequence[PhotoTask]]], Iterator[list[dict[str, Any]]]]


@dataclass(slots=True)
class BatchPlan:
    """What a run has to do and what it may leave.

    Attributes:
        tasks: Photos to do, in order.
        claims: Those of them whose names no earlier run has claimed.
        blocked: Photos whose result or mask would replace a file that is not ours.
        kept: Photos that are done and whose result is in place.
        still_failed: Photos that failed before and are not tried again.
        reasons: How many photos are done for which reason.
    """

    tasks: list[PhotoTask] = field(default_factory=list)
    claims: list[PhotoTask] = field(default_factory=list)
    blocked: list[PhotoTask] = field(default_factory=list)
    kept: int = 0
    still_failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def hash_settings(settings: RemoverSettings, model_sha256: str, extras: Mapping[str, Any]) -> str:
    """Fingerprint everything that can change a result's bytes.

    Args:
        settings: All settings; those that only change speed are left out.
        model_sha256: Identity of the network, of ``Weights``.
        extras: Further choices of the job.

    Returns:
        16 hexadecimal digits.

    Raises:
        InputError: The background picture cannot be read.
    """
    facts = result_values(settings, exclude=_IDENTIFIED_OTHERWISE)
    if settings.background and os.path.isfile(settings.background):
        facts["background"] = hashlib.sha256(read_bytes(settings.background, settings)).hexdigest()
    return fingerprint({**facts, "model_sha256": model_sha256, **extras})


def name_differences(job: BatchJob, earlier: Mapping[str, Any]) -> list[str]:
    """Say in which settings an earlier run differs, such as ``background was none, is now 'white'``.

    Args:
        job: This run.
        earlier: What the earlier run has noted in its job file.
    """
    now = {**result_values(job.settings, exclude=_IDENTIFIED_OTHERWISE), **job.result_choices()}
    if earlier.get("model_sha256") not in (None, job.model_sha256):
        # A file under the same name may have other content.
        now["model"] = job.settings.model if job.settings.model != earlier.get("model") else "one of other weights"
    if job.settings.precision != "auto":
        now["precision"] = job.settings.precision
    # Tuples come back from the file as lists.
    values = {name: json.loads(json.dumps(value)) for name, value in now.items()}
    changed = [name for name, value in values.items() if name in earlier and earlier[name] != value]
    return [f"another {name} ({_shown(earlier[name])} then, {_shown(values[name])} now)" for name in changed]


def _shown(value: Any) -> str:
    """Write a setting's value."""
    return "none" if value is None else str(value)


def pin_precision(
    settings: RemoverSettings, entries: Mapping[str, ManifestEntry], settings_hash: str
) -> RemoverSettings:
    """Let an automatic precision stay the one that the results so far were made in, whatever is fastest here.

    Args:
        settings: What was asked for.
        entries: What the manifest knows.
        settings_hash: Hash of these settings.

    Returns:
        The settings, with the precision of the results that are there.
    """
    used = {entry.precision for entry in entries.values() if entry.settings_hash == settings_hash} - {None}
    if settings.precision != "auto" or len(used) != 1:
        return settings
    return settings.model_copy(update={"precision": used.pop()})


def make_plan(
    photos: list[Photo],
    names: Mapping[str, str],
    entries: Mapping[str, ManifestEntry],
    present: Mapping[str, int],
    masks: Mapping[str, int],
    job: BatchJob,
    differences: Callable[[], list[str]] = list,
    masks_moved: bool = False,
) -> BatchPlan:
    """Compare the photos with what earlier runs noted and with the files that are there.

    Photos that share a file for their results are done together or not at all.

    Args:
        photos: The source's photos.
        names: Key and name of each result.
        entries: What the manifest knows.
        present: Name and size in bytes of each file in the target.
        masks: The same of the folder for masks.
        job: What the caller allows, with the fingerprint of its settings.
        differences: Says in which settings the earlier run differs; asked only if one does.
        masks_moved: Whether the folder for masks is another one than in the earlier run.

    Raises:
        ConfigError: Results were made with other settings and doing them again was not asked for.
    """
    plan = BatchPlan()
    owned = OwnedFiles(FolderFiles(present), FolderFiles(masks), job, masks_moved)
    stale = 0
    groups: defaultdict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[names[photo.key]].append(photo)
    for output, group in groups.items():
        reasons = [_reason(photo, entries.get(photo.key), owned) for photo in group]
        known = [entries.get(photo.key) for photo in group]
        if not any(reasons):
            failed = sum(entry is not None and entry.status == PhotoStatus.FAILED for entry in known)
            plan.still_failed += failed
            plan.kept += len(group) - failed
            continue
        stale += reasons.count("other settings")
        plan.reasons.update(reason or "in one file with these" for reason in reasons)
        tasks = [_task(*facts, output, owned) for facts in zip(group, known, reasons, strict=True)]
        if not job.overwrite and (obstacle := owned.obstacle(known, output)):
            plan.blocked += [replace(task, obstacle=obstacle) for task in tasks]
            continue
        plan.tasks += tasks
        plan.claims += [task for task, entry in zip(tasks, known, strict=True) if not owned.is_claimed(entry, output)]
    if stale and not job.reprocess:
        how = "; ".join(differences())
        raise ConfigError(
            got=f"{stale} results in the target were made with {how or 'other settings or another model'}",
            allowed="the settings of the earlier run",
            fix="add --reprocess to do them again, or choose another target",
        )
    return plan


def _task(photo: Photo, entry: ManifestEntry | None, reason: str | None, output: str, owned: OwnedFiles) -> PhotoTask:
    """Note what the present result was made from, unless it has to be made again whatever the photo holds.

    A claim replaces the row that a photo's result would be kept by.
    """
    task = PhotoTask(photo, output, left=owned.left(entry, output))
    if entry is None or entry.status not in (PhotoStatus.OK, PhotoStatus.NO_SUBJECT):
        return task
    if reason in ("other settings", "mask missing or altered") or not owned.is_claimed(entry, output):
        return task
    return replace(
        task, known_sha256=entry.source_sha256, known_output_sha256=entry.shard_sha256 or entry.output_sha256
    )


def _reason(photo: Photo, entry: ManifestEntry | None, owned: OwnedFiles) -> str | None:
    """Say why a photo has to be done, or None when it has not."""
    job = owned.job
    if entry is None:
        return "new"
    if entry.status == PhotoStatus.PENDING:
        return "unfinished"
    changed = (photo.size_bytes >= 0 and photo.size_bytes != entry.source_bytes) or (
        photo.modified_ns >= 0 and photo.modified_ns != entry.source_modified_ns
    )
    if entry.status == PhotoStatus.SKIPPED:
        return "source changed" if changed else None if job.skip_results else "named on its own"
    if entry.status == PhotoStatus.FAILED and (changed or entry.shard_bytes is None or job.retry_failed):
        return "source changed" if changed else "failed before" if job.retry_failed else None
    # A photo that failed has not been through the network, so that its row names no number format.
    other_format = entry.precision is not None and job.settings.precision not in ("auto", entry.precision)
    if entry.settings_hash != job.settings_hash or other_format:
        return "other settings"
    size_bytes = entry.output_bytes if entry.shard_bytes is None else entry.shard_bytes
    if size_bytes is not None and owned.outputs.size(entry.output) != size_bytes:
        return "result missing or altered"
    if entry.status == PhotoStatus.FAILED:
        return None
    if (
        entry.status == PhotoStatus.OK
        and job.masks is not None
        and owned.masks.size(mask_name(entry.output)) != entry.mask_bytes
    ):
        return "mask missing or altered"
    if changed:
        return "source changed"
    return "to verify" if job.verify or photo.modified_ns < 0 else None
