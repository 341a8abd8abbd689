"""Measures networks on a device: how fast they run and learn, of what it can do, and what memory they take."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cutray.config import LossSettings, OptimSettings
from cutray.engines.pytorch import PyTorchEngine
from cutray.training.averaging import ModelEma
from cutray.training.losses import deep_supervision_loss
from cutray.training.measure import seconds
from cutray.training.step import TrainStep


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One network at one size: what it does, and at what cost.

    Attributes:
        job: run (the network alone), serve (the engine, from and to the processor's memory) or train; with +graph
            where a captured CUDA graph is replayed, and +compile where blocks are compiled.
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


def running(network: Any, device: torch.device, model: str, side: int, batch: int, *, compiled: bool) -> GpuFigures:
    """Measure the forward pass, in fp16 on a GPU and in bf16 on a processor."""
    network.eval()
    photos = _photos(device, batch, side)
    made = torch.compile(network, dynamic=False) if compiled else network

    def once(chosen: Any) -> None:
        kind = torch.float16 if device.type == "cuda" else torch.bfloat16
        with torch.inference_mode(), torch.autocast(device.type, dtype=kind):
            chosen(photos)[0].sigmoid()

    return _row(device, GpuFigures("run", model, side, batch), lambda: once(network), lambda: once(made))


def serving(
    network: Any, device: torch.device, model: str, side: int, batch: int, *, captured: bool, compiled: bool
) -> GpuFigures:
    """Measure engine pytorch, in fp16 on a GPU: tensors go up and maps come down."""
    engine = PyTorchEngine(
        lambda: copy.deepcopy(network),
        side,
        device=device.type,
        precision="fp16" if device.type == "cuda" else "fp32",
        threads=torch.get_num_threads(),
        cuda_graph=captured,
        torch_compile=compiled,
    )
    photos = _photos(device, batch, side)
    views = photos.cpu().contiguous().numpy()
    job = "serve" + "+graph" * captured + "+compile" * compiled
    network.eval()

    def plain() -> None:
        with torch.inference_mode():
            network(photos)

    return _row(device, GpuFigures(job, model, side, batch), plain, lambda: engine.infer(views))


def learning(
    network: Any, device: torch.device, model: str, side: int, batch: int, *, captured: bool, compiled: bool
) -> GpuFigures:
    """Measure whole steps of training in bf16: loss, gradients, optimiser and moving average."""
    network.train()
    photos = _photos(device, batch, side)
    truth = (torch.rand(batch, 1, side, side, device=device) > 0.5).float()
    # What counts operations runs the plain loss, which would keep the compiled one from ever being compiled.
    fast: Any = torch.compile(deep_supervision_loss, dynamic=False) if compiled else deep_supervision_loss
    chosen: list[Any] = [deep_supervision_loss]

    def loss(image: Any, alpha: Any) -> Any:
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=not captured):
            outputs = network(image)
        return chosen[0](outputs, alpha, LossSettings())

    # A rate of next to nothing: random photos must not spoil the weights for what is measured next.
    step = TrainStep(network, ModelEma(network, 0.999), loss, OptimSettings(lr=1e-12), device, capture=captured)

    def once() -> None:
        step.run(photos, truth, 1e-12, 1)

    def plain() -> None:
        torch.autograd.backward(loss(photos, truth))
        chosen[0] = fast

    job = "train+graph" if captured else "train"
    return _row(device, GpuFigures(job, model, side, batch), plain, once)


def _photos(device: torch.device, batch: int, side: int) -> Any:
    """Return random photos on the device."""
    photos = torch.randn(batch, 3, side, side, device=device)
    return photos.contiguous(memory_format=torch.channels_last)


def _row(device: torch.device, row: GpuFigures, counted: Callable[[], Any], once: Callable[[], Any]) -> GpuFigures:
    """Time a run, count the operations of a plain one (two for a product with a sum), and see what memory it takes."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        counted()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(device, once)
    peak_mb = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0
    tflops = int(counter.get_total_flops()) / taken / 1e12
    return replace(row, per_s=row.batch / taken, tflops=tflops, peak_mb=peak_mb)


def figures_table(rows: Sequence[GpuFigures], peak: float) -> list[str]:
    """Write a table of figures in Markdown.

    Args:
        rows: The figures.
        peak: Rate of the product of matrices.
    """
    lines = [
        "| what | model | input | batch | photos/s | ms/photo | memory, MB | TFLOP/s | of the product's |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return lines + [
        f"| {row.job} | {row.model} | {row.side_px} | {row.batch} | {row.per_s:.0f} | {1000 / row.per_s:.2f} "
        f"| {row.peak_mb:.0f} | {row.tflops:.1f} | {100 * row.tflops / peak:.1f} % |"
        for row in rows
    ]
