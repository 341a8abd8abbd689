"""The calibration: measure on photos what a model's activations are like, which is what int8 has to know.

python -m pipelines.calibrate --model mine.onnx --images photos/      writes mine.int8.npz beside mine.onnx
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np

from cutray.console.progress import download_progress
from cutray.console.run import run
from cutray.engines.hardware import usable_cores
from cutray.engines.int8 import CalibrationStats, convolutions, encode_stats
from cutray.engines.openvino import read_network
from cutray.errors import ConfigError, EngineUnavailableError, InputError, MissingExtraError
from cutray.imaging.decode import decode_image
from cutray.imaging.files import write_atomically
from cutray.models.int8_stats import SUFFIX
from cutray.models.weights import Weights, resolve
from cutray.preflight import check_new_file
from cutray.preprocess import prepare
from cutray.privacy import import_openvino


@click.command()
@click.option("-m", "--model", default="u2net", show_default=True, help="Model name or path of an .onnx file.")
@click.option(
    "--images", type=click.Path(path_type=Path), required=True, help="Folder of photos like those to be cut out."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=100, show_default=True, help="Photos, spread over the folder."
)
@click.option("--out", type=click.Path(path_type=Path), help="File to write; beside the weights by default.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def calibrate(model: str, images: Path, count: int, out: Path | None, overwrite: bool) -> None:
    """Measure what int8 has to know about a model, on photos that it will not be evaluated with."""
    with download_progress() as report:
        weights = resolve(model, progress=report)
    if weights.path.suffix.lower() != ".onnx":
        raise ConfigError(got=f"{weights.path.name} is not an ONNX file", allowed="int8 is for .onnx files")
    target = weights.path.with_suffix(SUFFIX) if out is None else out
    check_new_file(target, overwrite=overwrite)
    photos = spread_files(images, count)
    with click.progressbar(photos, label="calibrating", file=sys.stderr) as bar:
        stats = measure(weights, (prepare(decode_image(photo.read_bytes()).pixels, weights.spec) for photo in bar))
    write_atomically(target, encode_stats(stats), overwrite=overwrite)
    click.echo(f"{target}: {len(stats.peaks)} layers, {len(photos)} photos")


def measure(weights: Weights, inputs: Iterable[np.ndarray]) -> CalibrationStats:
    """Run a model and note the largest and the average value of each channel that a convolution reads.

    Convolutions whose input can be negative are left out.

    Args:
        weights: An ONNX file.
        inputs: Prepared pictures, (3, S, S) float32 each, at least one.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        EngineUnavailableError: No convolution of the model qualifies.
    """
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise MissingExtraError(got="openvino is not installed", fix="run `pip install openvino`") from error
    core = openvino.Core()
    network = read_network(core, weights.path, weights.spec.input_size_px)
    sources = {name: node.input_value(0) for name, node in convolutions(network).items()}
    if not sources:
        raise EngineUnavailableError(
            got=f"{weights.path} has no convolution that int8 would speed up", fix="leave --int8 out"
        )
    probe = openvino.Model(list(sources.values()), network.get_parameters(), "probe")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cores()}
    request = core.compile_model(probe, "CPU", options).create_infer_request()
    lows, peaks, means = (dict[str, list[np.ndarray]]() for _ in range(3))
    for one in inputs:
        request.infer([one[None]])
        for index, name in enumerate(sources):
            values = request.get_output_tensor(index).data[0]
            lows.setdefault(name, []).append(values.min())
            peaks.setdefault(name, []).append(values.max((1, 2)))
            means.setdefault(name, []).append(values.mean((1, 2)))
    usable = [name for name in sources if min(lows[name]) >= 0]
    if not usable:
        raise EngineUnavailableError(
            got=f"{weights.path} has no convolution whose input is never negative", fix="leave --int8 out"
        )
    return CalibrationStats(
        weights.sha256,
        {name: np.max(peaks[name], axis=0) for name in usable},
        {name: np.mean(means[name], axis=0) for name in usable},
    )


def spread_files(folder: Path, count: int) -> Sequence[Path]:
    """Return as many files of a folder, in the order of their names and evenly spaced."""
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise InputError(got=f"{folder} holds no files", allowed="a folder of photos")
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[index] for index in chosen]


if __name__ == "__main__":
    sys.exit(run(calibrate))
