"""The benchmarks: one photo at a time, a whole folder, and endpoints under load; side by side with rembg in one run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from cutray.config import EFFORTS, RemoverSettings, parse_settings
from cutray.console.progress import download_progress
from cutray.freed_memory import keep_freed_memory
from cutray.remover import BackgroundRemover
from cutray.segmenter import settle_settings
from pipelines.bench.capped import capped
from pipelines.bench.cpu import cpu
from pipelines.bench.edges import edges
from pipelines.bench.folder import batch_speed
from pipelines.bench.gpu import gpu
from pipelines.bench.hints import hints
from pipelines.bench.load import load
from pipelines.bench.pages import check_page, page_options, write_page
from pipelines.bench.photo import Peer, measure_speed
from pipelines.bench.quality import quality
from pipelines.bench.servers import servers


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photos; scikit-image's samples by default.")
@click.option("-m", "--model", help="Our model; what each quality runs by itself if not given.")
@click.option("--rembg-model", default="u2net", show_default=True, help="rembg's model.")
@click.option("--precision", default="auto", show_default=True, help="Number format of our network.")
@click.option(
    "-r", "--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Runs per photo and size."
)
@click.option(
    "--rembg-python", type=click.Path(path_type=Path), help="Interpreter that has rembg; without it only we run."
)
@page_options
def bench(
    context: click.Context,
    images: Path | None,
    model: str | None,
    rembg_model: str,
    precision: str,
    rounds: int,
    rembg_python: Path | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure speed, side by side with rembg.

    Both sides keep their model loaded and take turns, photo by photo, so that a noisy machine is noisy for both.

    \b
    cutray bench                                      only Cutray
    cutray bench --rembg-python .venv-rembg/bin/python
    cutray bench batch                                a whole folder, with memory
    cutray bench serve photo.jpg                      load on a running endpoint
    cutray bench servers --rembg .venv-rembg/bin/rembg   two servers under the same load
    cutray bench quality data/am2k                    cutouts against known alphas
    cutray bench edges                                hair, glass, metal and lace with exact alpha
    cutray bench cpu                                  the networks alone on the processor
    cutray bench gpu                                  the networks alone on a GPU
    cutray bench capped AVX2 make bench               all of it as on a processor with AVX2 alone
    cutray bench hints --data DUTS-TE/                what a box and points gain
    """
    if context.invoked_subcommand:
        return
    check_page(output, overwrite=overwrite)
    keep_freed_memory()  # as the commands do
    with download_progress() as progress:
        removers: dict[str, BackgroundRemover] = {}
        named = {} if model is None else {"model": model}
        for effort in EFFORTS:
            chosen = {**named, "quality": effort, "precision": precision}
            settings = settle_settings(parse_settings(RemoverSettings, chosen))
            # Qualities that run the same model share the loaded network.
            loaded = next((one.segmenter for one in removers.values() if one.settings.model == settings.model), None)
            removers[effort] = BackgroundRemover.from_settings(settings, progress=progress, segmenter=loaded)
    peer = Peer(rembg_python, rembg_model) if rembg_python else None
    with tempfile.TemporaryDirectory() as folder:
        text, facts = measure_speed(removers, images, peer, rounds, Path(folder))
    click.echo(text)
    write_page(output, text, overwrite=overwrite)
    click.echo(json.dumps({"job": "bench", **facts}))


bench.add_command(batch_speed)
bench.add_command(load)
bench.add_command(servers)
bench.add_command(edges)
bench.add_command(cpu)
bench.add_command(capped)
bench.add_command(gpu)
bench.add_command(quality)
bench.add_command(hints)
