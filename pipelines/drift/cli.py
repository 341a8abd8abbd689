"""``cutray drift``: are the photos of today still like those that a network was trained on?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.errors import InputError
from cutray.evaluation.drift import Fingerprint, compare
from cutray.imaging.files import write_atomically
from cutray.preflight import check_new_file
from pipelines.drift.accept import accept_corrected
from pipelines.drift.report import read_batch, read_endpoint, reference_of, table_of
from pipelines.scoring import spread

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
    from pipelines.drift.fingerprint import measure_all, photos_of

    check_new_file(output, overwrite=overwrite)
    photos = spread(photos_of(folder), limit)
    made = Fingerprint(made_from=f"{len(photos)} photos of {folder.name}")
    failed = measure_all(photos, parse_settings(RemoverSettings, {**given(options), "edge_cases": True}), made)
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
    seen: dict[str, Fingerprint] = read_batch(batch) if batch is not None else read_endpoint(url)
    if model is not None:
        seen = {name: one for name, one in seen.items() if name == model}
    if not seen:
        raise InputError(
            got=f"no photos{f' of {model}' if model else ''} have been counted",
            allowed="an endpoint with `drift.watch` that has seen some, or a finished batch",
            fix="send photos first",
        )
    found = {name: compare(reference_of(reference or name), live) for name, live in seen.items()}
    for name, differences in found.items():
        click.echo(f"{name}: {seen[name].photos()} photos")
        click.echo(table_of(differences))
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
    taken, problems = accept_corrected(samples, corrected, output)
    for problem in problems:
        click.echo(problem, err=True)
    click.echo(f"{taken} photos with masks are in {output}", err=True)
    click.echo(json.dumps({"job": "drift accept", "taken": taken, "problems": len(problems)}))
    return 0 if taken and not problems else 1
