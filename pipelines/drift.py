"""Drift: are the photos of today still like those that a network was trained on?

python -m pipelines.drift report --url URL    the same as ``cutray drift report --url URL``
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.progress import download_progress, photo_progress
from cutray.console.run import run
from cutray.errors import CutrayError, InputError
from cutray.evaluation.datasets import find_samples
from cutray.evaluation.drift import (
    BOUNDS,
    Difference,
    Fingerprint,
    compare,
    features_of,
    fingerprint_path,
    read_fingerprint,
)
from cutray.evaluation.drift_metrics import read_metrics
from cutray.imaging.files import write_atomically
from cutray.imaging.photo_files import find_photos
from cutray.models.weights import resolve
from cutray.preflight import check_new_file
from pipelines.scoring import spread

_PATIENCE_S = 10
_SHARES = {name for name, bounds in BOUNDS.items() if len(bounds) == 1}
_EXIT = "Exit code: 0 nothing has drifted, 1 a feature has, or something failed, 2 wrong usage."


@click.group()
def drift() -> None:
    """Compare the photos of today with those that a network was trained on.

    \b
    cutray drift report --url http://127.0.0.1:8000     what an endpoint has seen
    cutray drift report --batch cutouts/                what a batch has done
    cutray drift fingerprint photos/ -o photos.json     a reference of your own
    cutray drift accept samples/ corrected/ -o data/    corrected masks become training data
    """


@drift.command("fingerprint", cls=GroupedCommand)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option("--limit", default=500, show_default=True, type=click.IntRange(1), help="Most photos, evenly spaced.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@settings_options(EngineSettings)
def fingerprint(folder: Path, output: Path, limit: int, overwrite: bool, **options: Any) -> int:
    """Make a reference: histograms of what the photos of a folder are like, and of what a network says of them.

    A folder with masks in one of the layouts of `cutray train --data` is looked at without its masks.

    \b
    cutray drift fingerprint photos/ -o photos.json -m runs/shoes/best.onnx
    """
    check_new_file(output, overwrite=overwrite)
    photos = spread(_photos_of(folder), limit)
    made = Fingerprint(made_from=f"{len(photos)} photos of {folder.name}")
    failed = _measure_all(photos, parse_settings(RemoverSettings, {**given(options), "edge_cases": True}), made)
    if not made.photos():
        raise InputError(got=f"none of {len(photos)} photos can be read", fix="check the folder")
    write_atomically(output, made.as_json().encode(), overwrite=True)
    click.echo(f"{made.photos()} photos, {failed} could not be read. See {output}", err=True)
    click.echo(json.dumps({"job": "drift fingerprint", "photos": made.photos(), "failed": failed}))
    return 0


@drift.command("report", epilog=_EXIT)
@click.option("--url", multiple=True, help="Endpoint, or address of its metrics; several are added up.")
@click.option("--batch", help="DST of a batch.")
@click.option("--reference", help="A fingerprint, or a model with one beside it; by default that of each model.")
@click.option("--model", help="Only this one of the models that the endpoint serves.")
def report(url: tuple[str, ...], batch: str | None, reference: str | None, model: str | None) -> int:
    """Print how the photos of an endpoint or a batch differ from the reference, feature by feature.

    \b
    cutray drift report --url http://127.0.0.1:8000
    cutray drift report --url http://127.0.0.1:8000 --reference photos.json
    cutray drift report --batch cutouts/ --reference runs/shoes/best.onnx
    """
    if bool(url) == (batch is not None):
        raise click.UsageError("give --url or --batch")
    seen: dict[str, Fingerprint] = _read_batch(batch) if batch is not None else _read_endpoint(url)
    if model is not None:
        seen = {name: one for name, one in seen.items() if name == model}
    if not seen:
        raise InputError(
            got=f"no photos{f' of {model}' if model else ''} have been counted",
            allowed="an endpoint with `drift.watch` that has seen some, or a finished batch",
            fix="send photos first",
        )
    found = {name: compare(_reference(reference or name), live) for name, live in seen.items()}
    for name, differences in found.items():
        click.echo(f"{name}: {seen[name].photos()} photos")
        click.echo(_table(differences))
    drifted = {name: [one.feature for one in each if one.verdict == "drifted"] for name, each in found.items()}
    click.echo(json.dumps({"job": "drift report", "drifted": drifted}))
    return 1 if any(drifted.values()) else 0


@drift.command("accept")
@click.argument("samples", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("corrected", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Training folder."
)
def accept(samples: Path, corrected: Path, output: Path) -> int:
    """Take corrected cutouts of sample photos over as training data.

    SAMPLES is the folder of `cutray serve --samples`; CORRECTED holds cutouts of its photos as the page saves them,
    unpacked. The photos and the cutouts' alpha go to `images` and `masks` of the output. What was not corrected stays.

    \b
    cutray drift accept samples/ Downloads/cutouts/ -o data/
    cutray train --data data/
    """
    from pipelines.drift_accept import accept_corrected

    taken, problems = accept_corrected(samples, corrected, output)
    for problem in problems:
        click.echo(problem, err=True)
    click.echo(f"{taken} photos with masks are in {output}", err=True)
    click.echo(json.dumps({"job": "drift accept", "taken": taken, "problems": len(problems)}))
    return 0 if taken and not problems else 1


def _photos_of(folder: Path) -> list[Path]:
    """List the photos of a folder, without masks where it has them."""
    try:
        return [sample.image for sample in find_samples(folder)]
    except CutrayError:
        photos = list(find_photos(folder))
    if not photos:
        raise InputError(got=f"no photos in {folder}", allowed="one or more", fix="check the path")
    return photos


def _measure_all(photos: Sequence[Path], settings: RemoverSettings, made: Fingerprint) -> int:
    """Count all photos that can be read; returns how many cannot."""
    from cutray.chain import cut_out
    from cutray.evaluation.photo_features import measure_photo
    from cutray.segmenter import Segmenter
    from cutray.sources import decode_source

    with download_progress() as told:
        segmenter = Segmenter.load(settings, told)
    failed = 0
    with photo_progress(len(photos), shown=sys.stderr.isatty()) as advance:
        for path in photos:
            try:
                photo = decode_source(str(path), settings)
                found = cut_out(str(path), settings, "PNG", segmenter).report
            except InputError as error:
                click.echo(f"{path}: {error}", err=True)
                failed += 1
            else:
                values = features_of(
                    measure_photo(photo.view),
                    found=found.subject_found,
                    confidence=found.confidence,
                    area=found.area_fraction,
                    edge_cases=found.edge_cases,
                )
                made.add_all(values)
            advance(failed, None)
    return failed


def _read_endpoint(urls: Sequence[str]) -> dict[str, Fingerprint]:
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
def _read_batch(target: str) -> dict[str, Fingerprint]:
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


def _reference(name: str) -> Fingerprint:
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


def _table(differences: Sequence[Difference]) -> str:
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


if __name__ == "__main__":
    sys.exit(run(drift))
