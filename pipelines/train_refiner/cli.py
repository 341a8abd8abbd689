"""Trains an edge refiner on drawn scenes, photos and cut-outs, and writes the file that `bench edges` measures."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from cutray.config import RefinerSettings, parse_settings
from cutray.console.progress import download_progress, photo_progress
from cutray.engines.hardware import usable_cores
from cutray.errors import OptionError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import Sample, find_samples
from cutray.imaging.files import write_atomically
from cutray.preflight import check_new_file
from cutray.remover import BackgroundRemover
from pipelines.run_settings import assign_changes
from pipelines.train_refiner.examples import Sources

_LARGE, _SMALL = "u2net", "u2netp"


@click.command()
@click.option("-n", "--n", "amount", default=800, show_default=True, type=click.IntRange(min=8), help="Examples.")
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of photos and masks, also used as backgrounds.")
@click.option("--cutouts", type=click.Path(path_type=Path), help="Folder of pictures with an alpha channel.")
@click.option("--examples", "kept", type=click.Path(path_type=Path), help="Folder that keeps examples for next time.")
@click.option(
    "--init", type=click.Path(path_type=Path, exists=True), help="Weights of an earlier training to go on from."
)
@click.option("--weights", type=click.Path(path_type=Path), help="Also write the weights, to go on from (safetensors).")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a setting of RefinerSettings.")
@click.option(
    "-o", "--output", default="refiner.onnx", show_default=True, type=click.Path(path_type=Path), help="File to write."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def train_refiner(
    amount: int,
    photos: Path | None,
    cutouts: Path | None,
    kept: Path | None,
    init: Path | None,
    weights: Path | None,
    changes: Sequence[str],
    output: Path,
    overwrite: bool,
) -> None:
    """Train a small network that draws fine edges. Takes about an hour on two cores, minutes on a GPU.

    \b
    python -m pipelines.train_refiner --photos DUTS-TR/ --cutouts emoji/ -o refiner.onnx
    cutray bench edges --refiner refiner.onnx            how good it is
    python -m pipelines.train_refiner -n 16 --set steps=20        a try
    """
    for path in filter(None, (output, weights)):
        check_new_file(path, overwrite=overwrite)
    values: dict[str, Any] = {}
    assign_changes(values, changes)
    settings = parse_settings(RefinerSettings, values)
    from cutray.models.refiner import export_refiner, new_refiner, save_refiner
    from cutray.training.refiner import train_refiner as train
    from pipelines.train_refiner.crops import endless_batches

    with ExitStack() as stack:
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = _make_examples(
            folder, amount, check_samples(find_samples(photos)).samples if photos else (), _pictures(cutouts)
        )
        click.echo(f"{len(files)} examples, {settings.steps} steps of {settings.batch_size} crops", err=True)
        start = new_refiner(settings.seed, init)
        network = train(
            start, endless_batches(files, settings), settings, lambda progress: click.echo(progress, err=True)
        )
    if weights is not None:
        save_refiner(network, weights)
    write_atomically(output, data := export_refiner(network), overwrite=overwrite)
    click.echo(f"{output}: {len(data)} bytes", err=True)
    click.echo(
        json.dumps({"job": "train_refiner", "examples": len(files), "steps": settings.steps, "bytes": len(data)})
    )


def _make_examples(folder: Path, amount: int, photos: Sequence[Sample], cutouts: Sequence[Path]) -> list[Path]:
    """Make the examples that are not in the folder yet."""
    with download_progress() as progress:
        large, small = (BackgroundRemover(name, refine="never", progress=progress) for name in (_LARGE, _SMALL))
    sources = Sources(large, small, photos, cutouts)
    files = [folder / sources.name(number) for number in range(amount)]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        photo_progress(len(missing), shown=sys.stderr.isatty()) as advance,
    ):
        for _ in pool.map(lambda number: sources.make(number).save(files[number]), missing):
            advance(0)
    return files


def _pictures(folder: Path | None) -> list[Path]:
    """List the cut-outs of a folder."""
    if folder is None:
        return []
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".webp"))
    if not found:
        raise OptionError(got=f"{folder} holds no .png or .webp", allowed="a folder of pictures with an alpha channel")
    return found
