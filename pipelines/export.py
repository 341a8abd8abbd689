"""The export: trained weights as files that every engine runs, each compared with the original on photos.

python -m pipelines.export runs/shoes/best.safetensors    the same as ``cutray export …``
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from cutray.config import EngineSettings
from cutray.console.extras import requires_extra
from cutray.console.progress import download_progress
from cutray.console.run import run
from cutray.data.synthetic import CASES, draw_scene
from cutray.engines.base import Engine, EngineInfo
from cutray.engines.hardware import inspect_hardware
from cutray.engines.int8 import encode_stats
from cutray.errors import OptionError
from cutray.evaluation.drift import copy_fingerprint
from cutray.imaging.files import write_atomically
from cutray.models.int8_stats import SUFFIX
from cutray.models.weights import Weights, resolve
from cutray.preflight import check_new_file
from cutray.preprocess import prepare
from cutray.segmenter import Segmenter
from pipelines.calibrate import measure, read_photo, spread_files

_TIMED = 8
# Overlap of the masks with those of the original from which on a format keeps the quality.
_FAITHFUL_IOU = 0.99


@dataclass(frozen=True, slots=True)
class Row:
    """One file: how it computes, and how far its results are from those of PyTorch in fp32."""

    file: str
    megabytes: float
    engine: EngineInfo
    mean_difference: float
    iou: float
    milliseconds: float


@click.command()
@click.argument("weights")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="ONNX file to write; beside the weights if not given."
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Photos to calibrate and compare with; else drawn scenes."
)
@click.option("--fp16", is_flag=True, help="Also write NAME.fp16.onnx, half as large.")
@click.option("--int8", is_flag=True, help="Also write NAME.int8.npz, by which NAME.onnx computes in eight bits.")
@click.option(
    "--openvino", "openvino_ir", is_flag=True, help="Also write OpenVINO's own format, NAME.xml and NAME.bin."
)
@click.option("--count", type=click.IntRange(min=4), default=48, show_default=True, help="Photos to compare with.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@requires_extra("onnx,torch", "torch", "onnx", "onnxruntime")
def export(
    weights: str,
    output: Path | None,
    images: Path | None,
    fp16: bool,
    int8: bool,
    openvino_ir: bool,
    count: int,
    overwrite: bool,
) -> None:
    """Turn WEIGHTS (a file or a model's name) into files for every engine, and compare each with the original.

    \b
    cutray export runs/shoes/best.safetensors -o shoes.onnx
    cutray export runs/shoes/best.safetensors -o shoes.onnx --int8 --images photos/
    cutray export u2netp -o u2netp-copy.onnx --fp16 --openvino
    """
    from cutray.models.export import describe_model, export_onnx, halve_precision, save_openvino
    from cutray.models.u2net import load_u2net
    from cutray.training.model_card import card_path, model_card

    with download_progress() as report:
        found = resolve(weights, progress=report)
    target = output or found.path.with_suffix(".onnx")
    files = _files_to_write(target, fp16=fp16, int8=int8, openvino_ir=openvino_ir)
    _check_original(found.path, files)
    for path in files:
        check_new_file(path, overwrite=overwrite)
    inputs = [prepare(photo, found.spec) for photo in _photos(images, count, found.spec.input_size_px)]
    exported = export_onnx(load_u2net(found.path), found.spec.input_size_px)
    write_atomically(target, exported.data, overwrite=True)
    reference = _run(_engine(found, "pytorch", "fp32"), inputs)[0]
    spec = replace(found.spec, file=target.name, cpu_precisions=())
    made = replace(resolve(str(target)), spec=spec)
    rows = [
        _compare(made, "onnxruntime", "fp32", inputs, reference),
        _compare(made, "openvino", "fp32", inputs, reference),
    ]
    if inspect_hardware().computes_in_bf16:
        rows.append(_compare(made, "openvino", "bf16", inputs, reference))
    if int8:
        write_atomically(target.with_suffix(SUFFIX), encode_stats(measure(made, lambda: inputs)), overwrite=True)
        if inspect_hardware().computes_in_int8:
            rows.insert(0, _compare(made, "openvino", "int8", inputs, reference))
        else:
            click.echo("no row for int8: this processor has neither VNNI nor AMX; the statistics are written", err=True)
    allowed_precisions = tuple(
        row.engine.precision
        for row in sorted(rows, key=lambda row: row.milliseconds)
        if row.engine.precision != "fp32" and row.iou >= _FAITHFUL_IOU
    )
    text = describe_model(replace(spec, cpu_precisions=allowed_precisions))
    write_atomically(target.with_suffix(".toml"), text.encode(), overwrite=True)
    if fp16:
        half = target.with_suffix(".fp16.onnx")
        write_atomically(half, halve_precision(exported.data), overwrite=True)
        row = _compare(replace(resolve(str(half)), spec=spec), "onnxruntime", "fp32", inputs, reference)
        # The file computes in fp16; only its input and output are fp32, which is what the engine was asked for.
        rows.append(replace(row, engine=replace(row.engine, precision="fp16")))
    if openvino_ir:
        save_openvino(target, target.with_suffix(".xml"))
    card = model_card(replace(made, path=target), {"Export": _table(rows)}, run_dir=found.path.parent)
    write_atomically(card_path(target), card.encode(), overwrite=True)
    copy_fingerprint(found.path, target)
    _tell(rows, target, exported.difference)


def _files_to_write(target: Path, *, fp16: bool, int8: bool, openvino_ir: bool) -> list[Path]:
    """Name the files that an export makes; the description beside them may be there already."""
    wanted = ((fp16, ".fp16.onnx"), (int8, SUFFIX), (openvino_ir, ".xml"), (openvino_ir, ".bin"))
    return [target, *(target.with_suffix(suffix) for is_wanted, suffix in wanted if is_wanted)]


def _check_original(original: Path, files: Sequence[Path]) -> None:
    """Refuse to write into the file that is exported, even with --overwrite: it may be pinned, or the only one."""
    if any(path.resolve() == original.resolve() for path in files):
        raise OptionError(
            got=f"{original} is the file to be exported",
            allowed="an output of its own",
            fix="name another file with -o",
        )


def _photos(images: Path | None, count: int, side_px: int) -> list[np.ndarray]:
    """Read photos, or draw scenes of all kinds."""
    if images is not None:
        return [read_photo(path) for path in spread_files(images, count)]
    cases = [CASES[index % len(CASES)] for index in range(count)]
    return [
        draw_scene(case, np.random.default_rng([7, index]), side_px, side_px).image for index, case in enumerate(cases)
    ]


def _engine(weights: Weights, engine: str, precision: str) -> Engine:
    """Build an engine for a file."""
    settings = EngineSettings.model_validate({"engine": engine, "precision": precision, "device": "cpu"})
    return Segmenter.of(weights, settings).engine


def _run(engine: Engine, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return all maps, and the median milliseconds of one."""
    maps, times = [], []
    for one in inputs:
        started = time.perf_counter()
        maps.append(engine.infer(one[None])[0])
        times.append((time.perf_counter() - started) * 1000)
    return np.stack(maps), statistics.median(times[-_TIMED:])


def _compare(weights: Weights, engine: str, precision: str, inputs: Sequence[np.ndarray], reference: np.ndarray) -> Row:
    """Run a file and measure how far its maps are from the reference."""
    made = _engine(weights, engine, precision)
    maps, milliseconds = _run(made, inputs)
    found, wanted = maps > 0.5, reference > 0.5
    either = (found | wanted).sum((1, 2))
    overlap = (found & wanted).sum((1, 2)) / np.maximum(either, 1)
    iou = float(np.where(either, overlap, 1.0).mean())
    files = [weights.path, *([weights.path.with_suffix(SUFFIX)] if precision == "int8" else [])]
    size = sum(path.stat().st_size for path in files) / 1e6
    difference = float(np.abs(maps - reference).mean())
    return Row(weights.path.name, size, EngineInfo.of(made), difference, iou, milliseconds)


def _table(rows: Sequence[Row]) -> str:
    """Write what each file is like, as a table in Markdown."""
    head = "| file | MB | engine | mean abs Δp | IoU with the original | ms |\n|---|--:|---|--:|--:|--:|"
    lines = [
        f"| {row.file} | {row.megabytes:.2f} | {row.engine.name} {row.engine.precision} "
        f"| {row.mean_difference:.5f} | {row.iou:.4f} | {row.milliseconds:.0f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def _tell(rows: Sequence[Row], target: Path, difference: float) -> None:
    """Print the table, what to do next, and one line for programs."""
    click.echo(_table(rows))
    click.echo(f"largest difference from PyTorch on random input: {difference:.1e}", err=True)
    click.echo(f"try it: cutray remove photo.jpg -m {target}", err=True)
    facts = [
        {
            "engine": f"{row.engine.name} {row.engine.precision}",
            "mean_difference": row.mean_difference,
            "iou": row.iou,
            "ms": round(row.milliseconds, 1),
        }
        for row in rows
    ]
    click.echo(json.dumps({"job": "export", "file": str(target), "difference": difference, "rows": facts}))


if __name__ == "__main__":
    sys.exit(run(export))
