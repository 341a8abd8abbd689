"""Decides what is left to do: new photos, changed ones, unfinished ones; what is done and verified is left alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cutray.config import RemoverSettings
from cutray.errors import ConfigError
from cutray.imaging.files import read_bytes
from pipelines.batch.manifest import Entry
from pipelines.batch.sources import Photo

# How fast a result comes, and where from, does not change it.
_WITHOUT_EFFECT = ("threads", "batch_size", "offline", "device", "model")


@dataclass(frozen=True, slots=True)
class Task:
    """One photo to do.

    Attributes:
        photo: The photo.
        output: Name of its result.
        known_sha256: Hash of the content that the present result was made from; equal content is not done again.
        known_output_sha256: Hash that the present result should have.
    """

    photo: Photo
    output: str
    known_sha256: str | None = None
    known_output_sha256: str | None = None


@dataclass(slots=True)
class Plan:
    """What a run has to do and what it may leave.

    Attributes:
        tasks: Photos to do, in order.
        claims: Those of them whose names no earlier run has claimed.
        blocked: Photos whose result would replace a file that is not ours.
        kept: Photos that are done and whose result is in place.
        still_failed: Photos that failed before and are not tried again.
        reasons: How many photos are done for which reason.
    """

    tasks: list[Task] = field(default_factory=list)
    claims: list[Task] = field(default_factory=list)
    blocked: list[Task] = field(default_factory=list)
    kept: int = 0
    still_failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the caller allows.

    Attributes:
        settings_hash: Hash of the settings of this run.
        retry_failed: Try failed photos again.
        reprocess: Do photos again whose results were made with other settings.
        verify: Compare contents by hash instead of by size and time.
        overwrite: Replace files in the target that no run of ours has claimed.
        with_masks: Masks are wanted as well.
    """

    settings_hash: str
    retry_failed: bool = False
    reprocess: bool = False
    verify: bool = False
    overwrite: bool = False
    with_masks: bool = False


def hash_settings(settings: RemoverSettings, model_sha256: str, extras: Mapping[str, Any]) -> str:
    """Fingerprint everything that can change a result's bytes.

    Args:
        settings: All settings; those that only change speed are left out.
        model_sha256: Hash of the weights.
        extras: Further choices of the job.

    Returns:
        16 hexadecimal digits.

    Raises:
        InputError: The background picture cannot be read.
    """
    facts = {name: value for name, value in settings.model_dump().items() if name not in _WITHOUT_EFFECT}
    if settings.background and os.path.isfile(settings.background):
        facts["background"] = hashlib.sha256(read_bytes(settings.background, settings)).hexdigest()
    text = json.dumps({**facts, "model_sha256": model_sha256, **extras}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_plan(
    photos: list[Photo],
    names: Mapping[str, str],
    entries: Mapping[str, Entry],
    present: Mapping[str, int],
    masks: Mapping[str, int],
    rules: Rules,
) -> Plan:
    """Compare the photos with what earlier runs noted and with the files that are there.

    Args:
        photos: The source's photos.
        names: Key and name of each result.
        entries: What the manifest knows.
        present: Name and size in bytes of each file in the target.
        masks: The same of the folder for masks.
        rules: What the caller allows.

    Raises:
        ConfigError: Results were made with other settings and doing them again was not asked for.
    """
    plan = Plan()
    stale = 0
    for photo in photos:
        entry, output = entries.get(photo.key), names[photo.key]
        reason = _reason(photo, entry, present, masks, rules)
        if reason is None:
            plan.still_failed += entry is not None and entry.status == "failed"
            plan.kept += entry is None or entry.status != "failed"
            continue
        stale += reason == "other settings"
        plan.reasons[reason] += 1
        done = entry is not None and entry.status in ("ok", "no_subject")
        same = done and entry is not None and entry.settings_hash == rules.settings_hash
        known = entry if same and not reason.startswith("mask") else None
        task = Task(photo, output, known.source_sha256 if known else None, known.output_sha256 if known else None)
        claimed = entry is not None and (done or entry.status == "pending")
        if not claimed and output in present and not rules.overwrite:
            plan.blocked.append(task)
            continue
        plan.tasks.append(task)
        if not claimed:
            plan.claims.append(task)
    if stale and not rules.reprocess:
        raise ConfigError(
            got=f"{stale} results in the target were made with other settings or another model",
            allowed="the settings of the earlier run",
            fix="add --reprocess to do them again, or choose another target",
        )
    return plan


def _reason(
    photo: Photo, entry: Entry | None, present: Mapping[str, int], masks: Mapping[str, int], rules: Rules
) -> str | None:
    """Say why a photo has to be done, or None when it has not."""
    if entry is None:
        return "new"
    if entry.status == "pending":
        return "unfinished"
    changed = photo.size_bytes >= 0 and (photo.size_bytes, photo.modified_ns) != (
        entry.source_bytes,
        entry.source_modified_ns,
    )
    if entry.status == "failed":
        return "source changed" if changed else "failed before" if rules.retry_failed else None
    if entry.settings_hash != rules.settings_hash:
        return "other settings"
    if entry.status == "ok" and present.get(entry.output) != entry.output_bytes:
        return "result missing or altered"
    if entry.status == "ok" and rules.with_masks and masks.get(mask_name(entry.output)) != entry.mask_bytes:
        return "mask missing or altered"
    if changed:
        return "source changed"
    return "to verify" if rules.verify or photo.size_bytes < 0 else None


def mask_name(output: str) -> str:
    """Name of the mask that belongs to a result."""
    return os.path.splitext(output)[0] + ".png"
