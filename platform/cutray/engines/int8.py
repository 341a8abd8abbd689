"""Make a network compute in eight bits at load, from its own weights and measured statistics of its activations.

A convolution whose input was measured multiplies 8-bit activations with 8-bit weights; the rest stays as it is. What
keeps the result close to the original: the channels of an input are scaled to similar sizes, with the inverse in the
weights, and each bias is corrected by the mean error of the rounded weights. An input that can be negative is shifted
until it cannot, which the bias takes back, and its channels are mixed first where ``mix_channels`` can do it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.channel_mixing import mix_channels
from cutray.engines.openvino_graph import is_convolution, weights_node
from cutray.errors import EngineUnavailableError
from cutray.privacy import import_openvino

# Convolutions of the photo itself, and those that end in a single map, cost little and lose the most.
_MIN_CHANNELS = 8
# How much of the imbalance between channels goes into the weights: 0 leaves all of it to the activations. Between
# 0.5 and 0.8 the result hardly changes.
_SMOOTHING = 0.65
# Channels below this share of the largest one are treated as if they were as large.
_MIN_RELATIVE_PEAK = 1e-3
# Steps of an unsigned activation, and of a weight on either side of zero.
_ACTIVATION_STEPS, _WEIGHT_STEPS = 255, 127
# Of a weight whose activations are shifted. Those lie around the middle of their range, not near 0, and processors
# without VNNI add two products in 16 bits: with 127 steps many sums would overflow, with 95 hardly any.
_WEIGHT_STEPS_SHIFTED = 95


@dataclass(frozen=True, slots=True)
class CalibrationStats:
    """What a network's activations are like, by the name of the weights that they are multiplied with.

    Attributes:
        sha256: Of the network's file.
        peaks: For each input channel the largest value that is told apart from all others.
        means: For each input channel the average over all calibration photos.
        lows: For each input channel the smallest value that is told apart; only of inputs that can be negative, and
            of these after ``mix_channels``.
    """

    sha256: str
    peaks: Mapping[str, NDArray[np.float32]]
    means: Mapping[str, NDArray[np.float32]]
    lows: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def encode_stats(stats: CalibrationStats) -> bytes:
    """Return the statistics as the bytes of their file; the same values give the same bytes."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        sha256=np.array(stats.sha256),
        names=np.array(list(stats.peaks)),
        channels=np.array([len(peaks) for peaks in stats.peaks.values()], np.uint16),
        peaks=_join(stats.peaks.values()),
        means=_join(stats.means[name] for name in stats.peaks),
        shifted=np.array(list(stats.lows), np.str_),
        lows=_join(stats.lows.values()),
    )
    return stream.getvalue()


def read_stats(path: Path) -> CalibrationStats:
    """Read the statistics of a calibration.

    Raises:
        EngineUnavailableError: The file holds no such statistics.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            channels = dict(zip(stored["names"].tolist(), stored["channels"].tolist(), strict=True))
            peaks, means = (_split(stored[key], channels) for key in ("peaks", "means"))
            # Older files know no shifted inputs.
            shifted = {name: channels[name] for name in stored["shifted"].tolist()} if "shifted" in stored else {}
            lows = _split(stored["lows"], shifted) if shifted else {}
            return CalibrationStats(str(stored["sha256"]), peaks, means, lows)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EngineUnavailableError(
            got=f"{path} holds no calibration statistics for int8: {error}",
            fix="make them again with `python -m pipelines.calibrate`",
        ) from error


def _join(parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float16]:
    """Return arrays, one after the other, as they are stored."""
    return np.concatenate([np.zeros(0), *parts]).astype(np.float16)


def _split(joined: NDArray[np.float16], lengths: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
    """Return the arrays that were joined, by their names."""
    ends = np.cumsum(list(lengths.values()))[:-1]
    return dict(zip(lengths, np.split(joined.astype(np.float32), ends), strict=True))


def convolutions(network: Any) -> dict[str, Any]:
    """Return the convolutions of an OpenVINO network that are worth eight bits, by the name of their weights."""
    return {
        weights_node(node).get_friendly_name(): node
        for node in filter(is_convolution, network.get_ordered_ops())
        if min(weights_node(node).data.shape[:2]) >= _MIN_CHANNELS
    }


def quantise(network: Any, stats: CalibrationStats) -> None:
    """Change an OpenVINO network in place, so that the measured convolutions compute in eight bits.

    Raises:
        EngineUnavailableError: The statistics were made for another network.
    """
    ops = import_openvino().opset13
    known = convolutions(network)
    mix_channels(known[name] for name in stats.lows if name in known)
    for name, peaks in stats.peaks.items():
        stored = weights_node(known[name]).data if name in known else None
        if stored is None or stored.shape[1] != len(peaks):
            raise EngineUnavailableError(
                got=f"the calibration statistics for int8 do not fit the network at {name}",
                fix="make them again with `python -m pipelines.calibrate`",
            )
        weights: NDArray[np.float32] = stored.astype(np.float32)
        weight_peaks = np.maximum(weights.max((2, 3)), -weights.min((2, 3)))
        lows = stats.lows.get(name, np.zeros_like(peaks))
        steps = _WEIGHT_STEPS_SHIFTED if name in stats.lows else _WEIGHT_STEPS
        scales = smooth_scales(peaks - lows, weight_peaks)
        step_sizes = np.maximum((weight_peaks * scales).max(1), 1e-12)[:, None, None, None] / steps
        scaled = weights * scales[:, None, None]
        rounded = np.rint(scaled / step_sizes)
        # Source: Nagel et al., "Data-Free Quantization" (2019), section 4.2, with measured instead of assumed means.
        rounding_errors = ((rounded * step_sizes - scaled) / scales[:, None, None]).sum((2, 3))
        bias_shift = rounding_errors @ (stats.means[name] - lows) - weights.sum((2, 3)) @ lows

        convolution = known[name]
        followers = list(convolution.output(0).get_target_inputs())
        half = convolution.get_element_type().to_string() == "f16"  # networks whose file computes in halves
        zero, one = (ops.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1))
        input_lows, input_highs = (ops.constant(ends.reshape(1, -1, 1, 1)) for ends in (lows, lows + scales))
        source = ops.convert(convolution.input_value(0), "f32") if half else convolution.input_value(0)
        activations = ops.fake_quantize(source, input_lows, input_highs, zero, one, _ACTIVATION_STEPS + 1)
        codes = ops.convert(ops.constant(rounded.astype(np.int8)), "f32")
        convolution.input(0).replace_source_output(activations.output(0))
        convolution.input(1).replace_source_output(
            ops.multiply(codes, ops.constant(step_sizes.astype(np.float32))).output(0)
        )
        convolution.constructor_validate_and_infer_types()
        corrected = ops.add(convolution.output(0), ops.constant(-bias_shift.reshape(1, -1, 1, 1).astype(np.float32)))
        for follower in followers:
            follower.replace_source_output((ops.convert(corrected, "f16") if half else corrected).output(0))
    network.validate_nodes_and_infer_types()


def smooth_scales(peaks: NDArray[np.float32], weight_peaks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Choose by what each input channel of a convolution is divided before it is rounded.

    Args:
        peaks: (C,), at least 0.
        weight_peaks: (K, C), the largest magnitude among the weights from each input to each output channel.

    Returns:
        (C,), positive; no channel exceeds 1 after the division, and one of them reaches it.

    Source: Xiao et al., "SmoothQuant" (2023), eq. 4, for convolutions.
    """
    maxima = np.maximum(peaks, max(_MIN_RELATIVE_PEAK * float(peaks.max()), 1e-6))
    weight_maxima = np.maximum(weight_peaks.max(0), 1e-6)
    shares = maxima**_SMOOTHING / weight_maxima ** (1 - _SMOOTHING)
    return np.asarray(shares * (maxima / shares).max(), np.float32)
