"""Make a network compute in eight bits at load, from its own weights and a small recipe of measured activations.

A convolution multiplies 8-bit activations with 8-bit weights where the recipe knows its input; the rest stays as it
is. Two measures keep the result close to the original: the channels of an input are scaled to similar sizes, with
the inverse in the weights, and each bias takes back what rounding the weights adds on average.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.errors import EngineUnavailableError

# Convolutions of the photo itself, and those that end in a single map, cost little and lose the most.
_MIN_CHANNELS = 8
# How much of the imbalance between channels goes into the weights: 0 leaves all of it to the activations. Between
# 0.5 and 0.8 the result hardly changes.
_SHIFT = 0.65
# Channels below this share of the largest one are treated as if they were as large.
_FLOOR = 1e-3
# Steps of an unsigned activation, and of a weight on either side of zero.
_ACTIVATION_STEPS, _WEIGHT_STEPS = 255, 127


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a network's activations are like, by the name of the weights that they are multiplied with.

    ``sha256`` is that of the network's file. ``peaks`` and ``means`` hold one value, at least 0, per input channel:
    the largest over all calibration photos, and the average.
    """

    sha256: str
    peaks: Mapping[str, NDArray[np.float32]]
    means: Mapping[str, NDArray[np.float32]]


def encode_recipe(recipe: Recipe) -> bytes:
    """Return a recipe as the bytes of its file; the same values give the same bytes."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        sha256=np.array(recipe.sha256),
        names=np.array(list(recipe.peaks)),
        channels=np.array([len(peaks) for peaks in recipe.peaks.values()], np.uint16),
        peaks=np.concatenate(list(recipe.peaks.values())).astype(np.float16),
        means=np.concatenate([recipe.means[name] for name in recipe.peaks]).astype(np.float16),
    )
    return stream.getvalue()


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        EngineUnavailableError: The file is not a recipe.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, ends = stored["names"].tolist(), np.cumsum(stored["channels"])[:-1]
            peaks, means = (np.split(stored[key].astype(np.float32), ends) for key in ("peaks", "means"))
            return Recipe(
                str(stored["sha256"]), dict(zip(names, peaks, strict=True)), dict(zip(names, means, strict=True))
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EngineUnavailableError(
            got=f"{path} is no recipe for int8: {error}", fix="make it again with `python -m pipelines.calibrate`"
        ) from error


def convolutions(network: Any) -> dict[str, Any]:
    """Return the convolutions of an OpenVINO network that are worth eight bits, by the name of their weights."""
    found = {}
    for node in network.get_ordered_ops():
        if node.get_type_name() == "Convolution":
            weights = node.input_value(1).get_node()
            if weights.get_type_name() == "Constant" and min(weights.data.shape[:2]) >= _MIN_CHANNELS:
                found[weights.get_friendly_name()] = node
    return found


def quantise(network: Any, recipe: Recipe) -> None:
    """Change an OpenVINO network in place, so that the convolutions in the recipe compute in eight bits.

    Raises:
        EngineUnavailableError: The recipe was made for another network.
    """
    from openvino import opset13 as ops

    known = convolutions(network)
    for name, peaks in recipe.peaks.items():
        weights: NDArray[np.float32] | None = known[name].input_value(1).get_node().data if name in known else None
        if weights is None or weights.shape[1] != len(peaks):
            raise EngineUnavailableError(
                got=f"the recipe for int8 does not fit the network at {name}",
                fix="make it again with `python -m pipelines.calibrate`",
            )
        reach = np.maximum(weights.max((2, 3)), -weights.min((2, 3)))
        scales = balance(peaks, reach)
        steps = np.maximum((reach * scales).max(1), 1e-12)[:, None, None, None] / _WEIGHT_STEPS
        scaled = weights * scales[:, None, None]
        rounded = np.rint(scaled / steps)
        # Source: Nagel et al., "Data-Free Quantization" (2019), section 4.2, with measured instead of assumed means.
        surplus = ((rounded * steps - scaled) / scales[:, None, None]).sum((2, 3)) @ recipe.means[name]

        convolution = known[name]
        followers = list(convolution.output(0).get_target_inputs())
        zero, one = (ops.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1))
        tops = ops.constant(scales.reshape(1, -1, 1, 1))
        activations = ops.fake_quantize(convolution.input_value(0), zero, tops, zero, one, _ACTIVATION_STEPS + 1)
        codes = ops.convert(ops.constant(rounded.astype(np.int8)), "f32")
        convolution.input(0).replace_source_output(activations.output(0))
        convolution.input(1).replace_source_output(
            ops.multiply(codes, ops.constant(steps.astype(np.float32))).output(0)
        )
        corrected = ops.add(convolution.output(0), ops.constant(-surplus.reshape(1, -1, 1, 1).astype(np.float32)))
        for follower in followers:
            follower.replace_source_output(corrected.output(0))
    network.validate_nodes_and_infer_types()


def balance(peaks: NDArray[np.float32], reach: NDArray[np.float32]) -> NDArray[np.float32]:
    """Choose by what each input channel of a convolution is divided before it is rounded.

    Args:
        peaks: (C,), at least 0.
        reach: (K, C), the largest magnitude among the weights from each input to each output channel.

    Returns:
        (C,), positive; no channel exceeds 1 after the division, and one of them reaches it.

    Source: Xiao et al., "SmoothQuant" (2023), eq. 4, for convolutions.
    """
    sizes = np.maximum(peaks, max(_FLOOR * float(peaks.max()), 1e-6))
    loads = np.maximum(reach.max(0), 1e-6)
    shares = sizes**_SHIFT / loads ** (1 - _SHIFT)
    return np.asarray(shares * (sizes / shares).max(), np.float32)
