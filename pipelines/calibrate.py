"""The calibration: measure on photos what a model's activations are like, which is what int8 has to know.

python -m pipelines.calibrate --model mine.onnx --images photos/      writes mine.int8.npz beside mine.onnx
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from cutray.config import InputLimits
from cutray.console.progress import download_progress
from cutray.console.run import run
from cutray.engines.channel_mixing import mix_channels
from cutray.engines.hardware import usable_cores
from cutray.engines.int8 import CalibrationStats, convolutions, encode_stats
from cutray.engines.openvino import read_network
from cutray.errors import ConfigError, EngineUnavailableError, InputError, MissingExtraError
from cutray.imaging.decode import decode_image
from cutray.imaging.files import read_bytes, write_atomically
from cutray.imaging.photo_files import is_photo
from cutray.models.int8_stats import SUFFIX
from cutray.models.weights import Weights, resolve
from cutray.preflight import check_new_file
from cutray.preprocess import prepare
from cutray.privacy import import_openvino

_LIMITS = InputLimits()
# The axes over which a channel is measured: pictures and places.
_PLACES = (0, 2, 3)
# Ranges that a channel may be given, as shares of its largest value.
_SHARES = (1.0, 0.75, 0.55, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05)
# By how much the square of an error counts more if it comes from rounding than if it comes from cutting, for networks
# whose values have heavy tails: rounding moves all of a picture, cutting moves a few values that are beyond doubt
# anyway. The others lose by such cuts. Measured in docs/decisions/int8.md.
_ROUNDING_WEIGHTS = {"isnet": 64.0}


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

    def prepared() -> Iterator[np.ndarray]:
        with click.progressbar(photos, label="calibrating", file=sys.stderr) as bar:
            yield from (prepare(read_photo(photo), weights.spec) for photo in bar)

    stats = measure(weights, prepared)
    write_atomically(target, encode_stats(stats), overwrite=overwrite)
    click.echo(f"{target}: {len(stats.peaks)} layers, {len(photos)} photos")


def measure(weights: Weights, inputs: Callable[[], Iterable[np.ndarray]]) -> CalibrationStats:
    """Run a model and note the range and the average of each channel that a convolution reads.

    The range goes to the largest value; an IS-Net runs a second time, to see which smaller range is better. An input
    that can be negative has a range around its mean. It is left out if its convolution pads it with zeros, because
    they would have to be shifted as the input is.

    Args:
        weights: An ONNX file.
        inputs: Returns prepared pictures, (3, S, S) float32 each, at least one; the same ones whenever it is called.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        EngineUnavailableError: No convolution of the model qualifies.
    """
    try:
        ops = import_openvino().opset13
    except ImportError as error:
        raise MissingExtraError(got="openvino is not installed", fix="run `pip install openvino`") from error
    network = read_network(import_openvino().Core(), weights.path, weights.spec.input_size_px)
    known = convolutions(network)
    mix_channels(known.values())
    sources = {name: ops.convert(node.input_value(0), "f32") for name, node in known.items()}
    if not sources:
        raise EngineUnavailableError(
            got=f"{weights.path} has no convolution that int8 would speed up", fix="leave --int8 out"
        )
    reductions = (ops.reduce_min, ops.reduce_max, ops.reduce_mean)
    probes = {name: [reduce(source, _PLACES) for reduce in reductions] for name, source in sources.items()}
    rows = {name: np.array(values) for name, values in _run_probes(network, probes, inputs()).items()}
    peaks, means, lows = {}, {}, {}
    for name, found in rows.items():
        low, high, mean = found[:, 0].min(0), found[:, 1].max(0), found[:, 2].mean(0)
        if low.min() < 0:
            if _is_padded(known[name]):
                continue
            reach = np.maximum(high - mean, mean - low)
            lows[name], high = mean - reach, mean + reach
        peaks[name], means[name] = high, mean
    if not peaks:
        raise EngineUnavailableError(
            got=f"{weights.path} has no convolution whose input is never negative", fix="leave --int8 out"
        )
    weight = _ROUNDING_WEIGHTS.get(weights.spec.architecture)
    if weight is not None:
        never_negative = [name for name in peaks if name not in lows]
        probes = {name: [_excess(sources[name], peaks[name] * share) for share in _SHARES] for name in never_negative}
        for name, excess in _run_probes(network, probes, inputs()).items():
            peaks[name] = choose_ranges(peaks[name], np.mean(excess, axis=0), weight)
    return CalibrationStats(weights.sha256, peaks, means, lows)


def _is_padded(convolution: Any) -> bool:
    """Return whether a convolution sees zeros around its input."""
    pads = convolution.get_attributes()
    return any([*pads["pads_begin"], *pads["pads_end"]])


def choose_ranges(peaks: np.ndarray, excess: np.ndarray, rounding_weight: float) -> np.ndarray:
    """Choose up to which value the numbers of each channel are told apart; what is larger counts as that value.

    A smaller range rounds all values more finely, and cuts more of the largest.

    Args:
        peaks: (C,), the largest values.
        excess: (shares, C), the mean square of what exceeds each share of the peak.
        rounding_weight: How much more the square of an error counts if it comes from rounding.

    Returns:
        (C,), the shares of the peaks with the smallest sum of both errors.
    """
    steps = np.array(_SHARES, np.float32)[:, None] * peaks / 255
    errors = excess + rounding_weight * np.square(steps) / 12
    return np.asarray(peaks * np.array(_SHARES, np.float32)[errors.argmin(0)], np.float32)


def _excess(source: Any, limits: np.ndarray) -> Any:
    """Return the mean square of what exceeds a limit, for each channel of a network's node."""
    ops = import_openvino().opset13
    over = ops.relu(ops.subtract(source, ops.constant(limits.reshape(1, -1, 1, 1).astype(np.float32))))
    return ops.reduce_mean(ops.multiply(over, over), _PLACES)


def _run_probes(
    network: Any, probes: Mapping[str, Sequence[Any]], inputs: Iterable[np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Compute nodes of a network, (C,) each, for pictures; a list of (nodes, C) by the name of the layer."""
    openvino = import_openvino()
    ops = openvino.opset13
    outputs = [ops.concat([ops.unsqueeze(node, 0) for node in nodes], 0).output(0) for nodes in probes.values()]
    probe = openvino.Model(outputs, network.get_parameters(), "probe")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cores()}
    request = openvino.Core().compile_model(probe, "CPU", options).create_infer_request()
    found: dict[str, list[np.ndarray]] = {name: [] for name in probes}
    for one in inputs:
        request.infer([one[None]])
        for index, values in enumerate(found.values()):
            values.append(request.get_output_tensor(index).data.copy())
    return found


def spread_files(folder: Path, count: int) -> Sequence[Path]:
    """Return as many photos of a folder, in the order of their names and evenly spaced.

    Raises:
        InputError: There are none.
    """
    files = sorted(path for path in folder.glob("*") if not path.name.startswith(".") and is_photo(path))
    if not files:
        raise InputError(got=f"{folder} holds no photos", allowed="a folder of photos", fix="check the path")
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[index] for index in chosen]


def read_photo(path: Path) -> np.ndarray:
    """Read a photo, (H, W, 3) uint8.

    Raises:
        InputError: It cannot be read; the message names it.
    """
    try:
        return decode_image(read_bytes(path, _LIMITS), _LIMITS).pixels
    except InputError as error:
        fix = error.fix or "mend or remove it"
        raise InputError(got=f"{path} cannot be used: {error.got}", allowed=error.allowed, fix=fix) from error


if __name__ == "__main__":
    sys.exit(run(calibrate))
