"""What a processor does with the networks: milliseconds per photo, and how much of what it can multiply they use."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from cutray.config import EngineSettings, parse_settings
from cutray.console.progress import download_progress
from cutray.engines.base import draw_check_picture
from cutray.engines.hardware import inspect_hardware
from cutray.engines.int8 import CalibrationStats, convolutions, quantise
from cutray.engines.openvino import read_network
from cutray.errors import EngineUnavailableError
from cutray.models.weights import Weights, resolve
from cutray.privacy import import_openvino
from cutray.segmenter import Segmenter
from pipelines.bench.pages import check_page, describe_machine, page_options, write_page

# The convolutions that the processor's best rate is measured with: as many, of so many channels, on such a grid.
_LAYERS, _CHANNELS, _GRID = 4, 256, 80


@dataclass(frozen=True, slots=True)
class CpuFigures:
    """One network on this processor.

    Attributes:
        model: Its name.
        engine: Engine and number format.
        operations_g: Multiplications of one pass, in 10⁹; a sum goes with each.
        milliseconds: Median time of one pass.
        peak_gps: Multiplications per second of plain convolutions in that number format, in 10⁹.
    """

    model: str
    engine: str
    operations_g: float
    milliseconds: float
    peak_gps: float

    @property
    def share(self) -> float:
        """Share of the peak that the network reaches; above 1 where an engine multiplies less than is counted."""
        return self.operations_g / (self.milliseconds / 1000) / self.peak_gps


@click.command("cpu")
@click.option(
    *("-m", "--model", "models"),
    multiple=True,
    default=("u2net-lean-288", "u2net-lean", "u2net", "isnet"),
    show_default=True,
    help="Models, single networks.",
)
@click.option("-r", "--rounds", default=15, show_default=True, type=click.IntRange(min=1), help="Passes per model.")
@page_options
def cpu(models: Sequence[str], rounds: int, output: Path | None, overwrite: bool) -> None:
    """Measure the networks alone on the processor, against the fastest convolutions that it computes.

    Each runs in the engine and number format that `auto` takes. The networks take turns.

    \b
    cutray bench cpu
    cutray bench cpu -m u2net -m mine.onnx -o docs/benchmarks/networks.md
    """
    check_page(output, overwrite=overwrite)
    with download_progress() as progress:
        found = [resolve(name, progress=progress) for name in models]
    rows = measure_networks(found, rounds)
    text = _page(rows, rounds)
    click.echo(text)
    write_page(output, text, overwrite=overwrite)
    click.echo(json.dumps({"job": "bench cpu", "rows": [asdict(row) for row in rows]}))


def measure_networks(found: Sequence[Weights], rounds: int) -> list[CpuFigures]:
    """Time networks in turns, and the processor's best rate among them.

    Args:
        found: Single networks as ONNX files.
        rounds: Passes of each.

    Raises:
        EngineUnavailableError: No engine is installed, or a model is several networks.
        ImportError: OpenVINO, which counts and measures the peak, is not installed.
    """
    if several := [one.spec.name for one in found if one.members]:
        raise EngineUnavailableError(got=f"{several[0]} is several networks", fix="measure each of its models")
    settings = parse_settings(EngineSettings, {"device": "cpu"})
    loaded = [Segmenter.of(one, settings) for one in found]
    passes = [partial(one.engine.infer, draw_check_picture(one.weights.spec.input_size_px)) for one in loaded]
    precisions = sorted({one.choice.precision for one in loaded})
    plain = [plain_convolutions(precision, loaded[0].choice.threads) for precision in precisions]
    times = _time_in_turns([*passes, *(run for run, _ in plain)], rounds)
    fastest = map(min, times[len(passes) :])
    peaks = {name: count / s for name, (_, count), s in zip(precisions, plain, fastest, strict=True)}
    return [
        CpuFigures(
            one.weights.spec.name,
            f"{one.engine.name} {one.engine.precision}",
            count_operations(one.weights) / 1e9,
            1000 * statistics.median(taken),
            peaks[one.choice.precision] / 1e9,
        )
        for one, taken in zip(loaded, times, strict=False)
    ]


def _time_in_turns(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the seconds of each run, round by round; the first round warms up and is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for run, taken in zip(runs, times, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return [taken[1:] for taken in times]


def count_operations(weights: Weights) -> float:
    """Return the multiplications of one pass in the convolutions of a network, as its file says them.

    Args:
        weights: A single network as an ONNX file.
    """
    return _multiplications(read_network(import_openvino().Core(), weights.path, weights.spec.input_size_px))


def plain_convolutions(precision: str, threads: int) -> tuple[Callable[[], object], float]:
    """Compile a chain of 3×3 convolutions that suits the processor.

    Args:
        precision: fp32, bf16 or int8.
        threads: Processor threads.

    Returns:
        What runs it once, and its multiplications.
    """
    openvino = import_openvino()
    ops = openvino.opset13
    shape = [1, _CHANNELS, _GRID, _GRID]
    picture = ops.parameter(shape, np.float32)
    chance, last = np.random.default_rng(0), ops.relu(picture)
    for _ in range(_LAYERS):
        kernel = ops.constant(chance.integers(-127, 128, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32) * 1e-3)
        last = ops.relu(ops.convolution(last, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    network = openvino.Model([last.output(0)], [picture], "plain")
    if precision == "int8":
        ones = dict.fromkeys(convolutions(network), np.ones(_CHANNELS, np.float32))
        quantise(network, CalibrationStats("", peaks=ones, means=ones))
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    request = openvino.Core().compile_model(network, "CPU", options).create_infer_request()
    return partial(request.infer, [chance.random(shape, np.float32)]), _multiplications(network)


def _multiplications(network: Any) -> float:
    """Return the multiplications of an OpenVINO network's convolutions: so many for each value of their outputs."""
    layers = [node for node in network.get_ops() if node.get_type_name() == "Convolution"]
    return float(sum(math.prod(one.output(0).get_shape()) * math.prod(one.input(1).get_shape()[1:]) for one in layers))


def _page(rows: Sequence[CpuFigures], rounds: int) -> str:
    """Write the table with all that is needed to repeat it."""
    lines = [
        "# Networks on a processor",
        "",
        f"Written by `cutray bench cpu`. One pass of each network alone, medians of {rounds} passes in turns. The peak",
        f"is what OpenVINO reaches in the same number format on {_LAYERS} plain 3×3 convolutions of {_CHANNELS}",
        f"channels, {_GRID} × {_GRID}. The floor is what a pass would take at the peak. An engine that multiplies",
        "less than is counted (MNN, by Winograd's scheme) may be below it.",
        "",
        describe_machine(inspect_hardware()),
        "",
        "| network | engine | 10⁹ multiplications | ms | peak, 10⁹ per s | floor, ms | share of the peak |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.model} | {row.engine} | {row.operations_g:.1f} | {row.milliseconds:.0f} | {row.peak_gps:.0f} "
        f"| {1000 * row.operations_g / row.peak_gps:.0f} | {row.share:.0%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
