"""Reads what an endpoint or a batch has seen, and writes the table of differences."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutray.console.extras import requires_extra
from cutray.errors import InputError
from cutray.evaluation.drift import (
    BOUNDS,
    Difference,
    Fingerprint,
    features_of,
    fingerprint_path,
    read_fingerprint,
)
from cutray.evaluation.drift_metrics import read_metrics
from cutray.models.weights import resolve

_PATIENCE_S = 10
_SHARES = {name for name, bounds in BOUNDS.items() if len(bounds) == 1}


def read_endpoint(urls: Sequence[str]) -> dict[str, Fingerprint]:
    """Ask endpoints for their metrics."""
    return read_metrics("\n".join(_ask(url) for url in urls))


def _ask(url: str) -> str:
    """Fetch metrics from one address."""
    if not url.startswith(("http://", "https://")):
        raise InputError(got=f"the address {url!r}", allowed="http:// or https://", fix="write it in full")
    address = url if url.rstrip("/").endswith("/metrics") else f"{url.rstrip('/')}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        why = "it has no metrics_port" if isinstance(error, urllib.error.HTTPError) and error.code == 404 else error
        raise InputError(
            got=f"{address} does not answer with metrics: {why}",
            allowed="a running endpoint with a metrics_port",
            fix="check the address, or give that of the node's metrics port",
        ) from error


@requires_extra("batch", "pyarrow")
def read_batch(target: str) -> dict[str, Fingerprint]:
    """Read size, confidence, area and edge cases of a batch out of its manifest."""
    from pipelines.batch.manifest import Manifest, PhotoStatus, read_job
    from pipelines.batch.storage import open_storage

    storage = open_storage(target)
    rows = Manifest(storage).table().to_pylist()
    if not rows:
        raise InputError(got=f"no manifest of a batch in {target}", allowed="the DST of `cutray batch`", fix="check it")
    made = Fingerprint()
    for row in rows:
        if row["status"] in (PhotoStatus.OK, PhotoStatus.NO_SUBJECT):
            made.add_all(_values_of(row, found=row["status"] == PhotoStatus.OK))
    return {str(read_job(storage).get("model", "")): made} if made.photos() else {}


def _values_of(row: Mapping[str, Any], *, found: bool) -> dict[str, float]:
    """Read one row of a manifest."""
    values = features_of(
        None,
        found=found,
        confidence=row["confidence"],
        area=row["area_fraction"],
        edge_cases=row["edge_cases"],
    )
    return values | {"megapixels": row["width_px"] * row["height_px"] / 1e6}


def reference_of(name: str) -> Fingerprint:
    """Read the fingerprint of a file, or the one beside a model's weights."""
    path = Path(name)
    if path.suffix != ".json":
        path = fingerprint_path(resolve(name, offline=True).path)
    if not os.path.isfile(path):
        raise InputError(
            got=f"{name} has no fingerprint: {path} is not there",
            allowed="--reference with a file of `cutray drift fingerprint`, or a model that was trained here",
            fix="make one of photos like those that it was trained on",
        )
    return read_fingerprint(path)


def table_of(differences: Sequence[Difference]) -> str:
    """Write the table for people."""
    row = "  {:<13} {:>10} {:>10} {:>7} {:>7} {:>9}  {}"
    lines = [row.format("feature", "reference", "live", "PSI", "D", "p", "verdict")]
    for one in differences:
        figures = (_figure(one.feature, one.reference), _figure(one.feature, one.live))
        p_value = f"{one.p_value:.3f}" if one.p_value >= 0.001 else "< 0.001"
        lines.append(row.format(one.feature, *figures, f"{one.psi:.3f}", f"{one.statistic:.3f}", p_value, one.verdict))
    return "\n".join(lines)


def _figure(feature: str, value: float) -> str:
    """Write a median, or a share as a percentage."""
    return f"{100 * value:.1f} %" if feature in _SHARES else f"{value:.3g}"
