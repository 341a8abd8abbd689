"""What a GPU does with the networks: photos per second and memory when they run and when they learn."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutray.console.progress import download_progress
from cutray.console.run import run
from cutray.errors import EngineUnavailableError
from cutray.imaging.files import write_atomically
from cutray.preflight import check_new_file
from pipelines.bench.pages import overwrite_option

if TYPE_CHECKING:
    from pipelines.bench.networks import GpuFigures

_BATCHES = (1, 8, 32)
_PRODUCT_SIDE = 8192


@click.command("gpu")
@click.option("-m", "--model", "models", multiple=True, default=("u2net", "u2netp"), show_default=True, help="Models.")
@click.option("--side", "sides", multiple=True, type=int, default=(320, 512), show_default=True, help="Input sides.")
@click.option("--train-batch", default=64, show_default=True, type=click.IntRange(min=2), help="Photos per step.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the networks first; takes minutes.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the page to this file (Markdown).")
@overwrite_option
def gpu(
    models: Sequence[str],
    sides: Sequence[int],
    train_batch: int,
    compiled: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure the networks alone on a GPU, against the fastest product of matrices that it computes.

    Running in fp16, learning in bf16 with the losses of `cutray train`; photos are random and lie on the GPU already.

    \b
    cutray bench gpu
    cutray bench gpu -m u2netp --side 320 -o docs/benchmarks/gpu.md
    """
    if output is not None:
        check_new_file(output, overwrite=overwrite)
    import torch

    from cutray.models.u2net import load_u2net
    from cutray.models.weights import resolve
    from cutray.training.measure import matrix_product
    from pipelines.bench.networks import learning, running

    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            got=f"torch {torch.__version__} sees no GPU",
            allowed="an NVIDIA GPU and a CUDA build of torch",
            fix="measure processors with `cutray bench`",
        )
    device = torch.device("cuda")
    peak = matrix_product(device, _PRODUCT_SIDE)
    rows = []
    with download_progress() as progress:
        found = [resolve(name, progress=progress) for name in models]
    for weights in found:
        name = weights.spec.name
        network = load_u2net(weights.path).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
        for side in sides:
            rows += [running(network, device, name, side, batch, compiled=compiled) for batch in _BATCHES]
            try:
                rows += [
                    learning(network, device, name, side, train_batch, captured=captured, compiled=compiled)
                    for captured in (False, True)
                ]
            except torch.cuda.OutOfMemoryError:
                click.echo(f"{name} does not learn {train_batch} photos of {side} pixels at a time here", err=True)
    text = _page(torch, rows, peak, compiled)
    click.echo(text)
    if output is not None:
        write_atomically(output, text.encode(), overwrite=overwrite)
    click.echo(json.dumps({"job": "bench gpu", "product_tflops": peak, "rows": [asdict(row) for row in rows]}))


def _page(torch: Any, rows: Sequence[GpuFigures], peak: float, compiled: bool) -> str:
    """Write the tables with all that is needed to repeat them."""
    from cutray.training.measure import RUNS
    from pipelines.bench.networks import figures_table

    made_with = f"{torch.cuda.get_device_name()}, torch {torch.__version__}{', compiled' if compiled else ''}"
    lines = [
        "# Speed on a GPU",
        "",
        f"Written by `cutray bench gpu`. {made_with}. Networks alone, medians of {RUNS} runs; photos lie on the GPU",
        "already. Running in fp16, learning in bf16 with the losses of `cutray train`. The last column is the share of",
        f"what a product of {_PRODUCT_SIDE} × {_PRODUCT_SIDE} matrices in bf16 reaches there: {peak:.0f} TFLOP/s.",
        "",
        *figures_table(rows, peak),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run(gpu))
