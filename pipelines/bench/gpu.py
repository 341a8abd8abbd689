"""What a GPU does with the networks: photos per second and memory when they run and when they learn."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from cutray.config import LossSettings
from cutray.console.progress import download_progress
from cutray.console.run import run
from cutray.errors import EngineUnavailableError
from cutray.imaging.files import write_atomically

_BATCHES = (1, 8, 32)
_PRODUCT_SIDE = 8192
_WARM_UP, _RUNS = 5, 20


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One network at one size: what it does, and at what cost.

    Attributes:
        job: run or train.
        model: Its name.
        side_px: Side of the input.
        batch: Photos at a time.
        per_s: Photos per second.
        tflops: Arithmetic done per second, in 10¹².
        peak_mb: Most memory of the GPU that tensors took, in megabytes.
    """

    job: str
    model: str
    side_px: int
    batch: int
    per_s: float = 0.0
    tflops: float = 0.0
    peak_mb: float = 0.0


@click.command("gpu")
@click.option("-m", "--model", "models", multiple=True, default=("u2net", "u2netp"), show_default=True, help="Models.")
@click.option("--side", "sides", multiple=True, type=int, default=(320, 512), show_default=True, help="Input sides.")
@click.option("--train-batch", default=64, show_default=True, type=click.IntRange(min=2), help="Photos per step.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the networks first; takes minutes.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the page to this file (Markdown).")
def gpu(models: Sequence[str], sides: Sequence[int], train_batch: int, compiled: bool, output: Path | None) -> None:
    """Measure the networks alone on a GPU, against the fastest product of matrices that it computes.

    Running in fp16, learning in bf16 with the losses of `cutray train`; photos are random and lie on the GPU already.

    \b
    cutray bench gpu
    cutray bench gpu -m u2netp --side 320 -o docs/benchmarks/gpu.md
    """
    import torch

    from cutray.models.u2net import load_u2net
    from cutray.models.weights import resolve

    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            got=f"torch {torch.__version__} sees no GPU",
            allowed="an NVIDIA GPU and a CUDA build of torch",
            fix="measure processors with `cutray bench`",
        )
    peak = _matrix_product(torch)
    rows = []
    with download_progress() as progress:
        found = [resolve(name, progress=progress) for name in models]
    for weights in found:
        name = weights.spec.name
        network = load_u2net(weights.path).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
        for side in sides:
            rows += [_running(torch, network, name, side, batch, compiled) for batch in _BATCHES]
            try:
                rows.append(_learning(torch, network, name, side, train_batch, compiled))
            except torch.cuda.OutOfMemoryError:
                click.echo(f"{name} does not learn {train_batch} photos of {side} pixels at a time here", err=True)
    text = _page(torch, rows, peak, compiled)
    click.echo(text)
    if output is not None:
        write_atomically(output, text.encode(), overwrite=True)
    click.echo(json.dumps({"job": "bench gpu", "product_tflops": peak, "rows": [asdict(row) for row in rows]}))


def _matrix_product(torch: Any) -> float:
    """Return the rate of a large product of matrices in bf16, in 10¹² operations per second."""
    left, right = (torch.randn(_PRODUCT_SIDE, _PRODUCT_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = _seconds(torch, lambda: left @ right)
    return float(2 * _PRODUCT_SIDE**3 / seconds / 1e12)


def _running(torch: Any, network: Any, model: str, side: int, batch: int, compiled: bool) -> GpuFigures:
    """Measure the forward pass in fp16."""
    network.eval()
    photos = _photos(torch, batch, side)

    def once(made: Any) -> None:
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.float16):
            made(photos)[0].sigmoid()

    return _row(torch, GpuFigures("run", model, side, batch), network, once, compiled)


def _learning(torch: Any, network: Any, model: str, side: int, batch: int, compiled: bool) -> GpuFigures:
    """Measure whole steps of training in bf16."""
    from cutray.training.losses import deep_supervision_loss

    network.train()
    photos = _photos(torch, batch, side)
    truth = (torch.rand(batch, 1, side, side, device="cuda") > 0.5).float()
    # A rate of next to nothing: random photos must not spoil the weights for what is measured next.
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-12)
    compare, settings = torch.compile(deep_supervision_loss, dynamic=False), LossSettings()

    def once(made: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            outputs = made(photos)
        # What counts operations runs the plain network, and would keep the loss from ever being compiled.
        loss = deep_supervision_loss if made is network else compare
        torch.autograd.backward(loss(outputs, truth, settings))
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return _row(torch, GpuFigures("train", model, side, batch), network, once, compiled)


def _photos(torch: Any, batch: int, side: int) -> Any:
    """Return random photos on the GPU."""
    photos = torch.randn(batch, 3, side, side, device="cuda")
    return photos.contiguous(memory_format=torch.channels_last)


def _row(torch: Any, row: GpuFigures, network: Any, once: Callable[[Any], None], compiled: bool) -> GpuFigures:
    """Time a run of a network, count its operations, two for each product with a sum, and see what memory it takes."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        once(network)
    made = torch.compile(network, dynamic=False) if compiled else network
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = _seconds(torch, lambda: once(made))
    tflops = int(counter.get_total_flops()) / seconds / 1e12
    return replace(row, per_s=row.batch / seconds, tflops=tflops, peak_mb=torch.cuda.max_memory_allocated() / 1e6)


def _seconds(torch: Any, once: Callable[[], Any]) -> float:
    """Return the median of some runs, by the GPU's own clock."""
    for _ in range(_WARM_UP):
        once()
    times = []
    for _ in range(_RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        once()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)) / 1000)
    return statistics.median(times)


def _page(torch: Any, rows: Sequence[GpuFigures], peak: float, compiled: bool) -> str:
    """Write the tables with all that is needed to repeat them."""
    made_with = f"{torch.cuda.get_device_name()}, torch {torch.__version__}{', compiled' if compiled else ''}"
    lines = [
        "# Speed on a GPU",
        "",
        f"Written by `cutray bench gpu`. {made_with}. Networks alone, medians of {_RUNS} runs; photos lie on the GPU",
        "already. Running in fp16, learning in bf16 with the losses of `cutray train`. The last column is the share of",
        f"what a product of {_PRODUCT_SIDE} × {_PRODUCT_SIDE} matrices in bf16 reaches there: {peak:.0f} TFLOP/s.",
        "",
        "| what | model | input | batch | photos/s | ms/photo | memory, MB | TFLOP/s | of the product's |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.job} | {row.model} | {row.side_px} | {row.batch} | {row.per_s:.0f} | {1000 / row.per_s:.2f} "
        f"| {row.peak_mb:.0f} | {row.tflops:.1f} | {100 * row.tflops / peak:.1f} % |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run(gpu))
