"""Convolutions of low rank in eight bits: inputs that can be negative are mixed and shifted, and the answers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutray.engines.channel_mixing import mix_channels
from cutray.engines.int8 import CalibrationStats, convolutions, encode_stats, quantise, read_stats
from cutray.models.catalog import list_models
from cutray.models.weights import Weights

SIDE_PX = 320


def _convolve(source: Any, name: str, width: int, kernel: int, stride: int = 1) -> Any:
    """Return a convolution with random weights, whose channels differ in size by a factor of 100."""
    import openvino.opset13 as ops

    width_in = source.output(0).get_shape()[1]
    weights = np.random.default_rng(len(name)).standard_normal((width, width_in, kernel, kernel))
    weights *= np.geomspace(10, 0.1, width)[:, None, None, None] / np.sqrt(weights[0].size * 10)
    node = ops.constant(weights.astype(np.float32))
    node.set_friendly_name(name)
    pads = [kernel // 2, kernel // 2]
    return ops.convolution(source, node, [stride, stride], pads, pads, [1, 1])


def _low_rank(extra_reader: bool = False) -> Any:
    """Return a network with a convolution of low rank: 3×3 on two grids, their sum, 1×1."""
    openvino = pytest.importorskip("openvino")
    ops = openvino.opset13
    photo = ops.parameter([1, 3, SIDE_PX, SIDE_PX], np.float32)
    features = ops.relu(_convolve(photo, "first", 16, 3))
    below = _convolve(ops.relu(_convolve(features, "halve", 16, 3, stride=2)), "below", 12, 3)
    sizes, axes = np.array([SIDE_PX, SIDE_PX]), np.array([2, 3])
    enlarged = ops.interpolate(
        below, sizes, "linear_onnx", "sizes", axes=axes, coordinate_transformation_mode="half_pixel"
    )
    low = ops.add(_convolve(features, "spatial", 12, 3), enlarged)
    expanded = ops.relu(_convolve(low, "expand", 16, 1))
    last = ops.concat([expanded, low], 1) if extra_reader else expanded
    return openvino.Model([ops.sigmoid(_convolve(last, "last", 1, 3)).output(0)], [photo], "low rank")


def _probabilities(network: Any, photos: list[np.ndarray]) -> np.ndarray:
    import openvino

    # Where the processor has AMX, OpenVINO's own choice is bf16, whose rounding would hide what is looked for.
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(network, "CPU", options)
    return np.array([compiled([photo[None]])[0] for photo in photos])


def _weights(network: Any) -> dict[str, np.ndarray]:
    nodes = [node.input_value(1).get_node() for node in network.get_ordered_ops() if "Conv" in node.get_type_name()]
    return {node.get_friendly_name(): node.data.copy() for node in nodes}


def _photos(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(3).standard_normal((count, 3, SIDE_PX, SIDE_PX)).astype(np.float32))


@pytest.mark.parametrize(("extra_reader", "mixed"), [(False, {"below", "spatial", "expand"}), (True, set())])
def test_answers_stay(extra_reader: bool, mixed: set[str]) -> None:
    """Weights on both sides of the mixed channels change, and the answer does not; what others read is not mixed."""
    plain, changed = (_low_rank(extra_reader) for _ in range(2))
    mix_channels(convolutions(changed).values())
    before, after = _weights(plain), _weights(changed)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == mixed
    photos = _photos(1)
    expected = _probabilities(plain, photos)
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(_probabilities(changed, photos), expected, atol=1e-5)


def test_only_named_layers_are_mixed() -> None:
    """A layer that the statistics do not know as shifted keeps its channels."""
    plain, changed = _low_rank(), _low_rank()
    mix_channels(node for name, node in convolutions(changed).items() if name != "expand")
    before, after = _weights(plain), _weights(changed)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_mixed_channels_vary_alike() -> None:
    """Channels that differ by a factor of 30 before differ by less than 5 after the mixing."""
    openvino = pytest.importorskip("openvino")
    spreads = []
    for is_mixed in (False, True):
        network = _low_rank()
        if is_mixed:
            mix_channels(convolutions(network).values())
        source = convolutions(network)["expand"].input_value(0)
        probe = openvino.Model([source], network.get_parameters(), "probe")
        deviations = _probabilities(probe, _photos(1)).std((0, 1, 3, 4))
        spreads.append(deviations.max() / deviations.min())
    assert spreads[0] > 30
    assert spreads[1] < 5


def test_low_rank_computes_in_eight_bits(tmp_path: Path) -> None:
    """All but the first and the last convolution compute in eight bits, close to the original's answers."""
    openvino = pytest.importorskip("openvino")
    measure = pytest.importorskip("pipelines.calibrate").measure
    openvino.save_model(_low_rank(), tmp_path / "low.xml", compress_to_fp16=False)
    weights = Weights(list_models()[0], tmp_path / "low.xml", "0" * 64)
    stats = measure(weights, lambda: _photos(3))
    assert set(stats.peaks) == {"halve", "below", "spatial", "expand"}
    assert set(stats.lows) == {"expand"}
    network = _low_rank()
    quantise(network, stats)
    kinds = [node.get_type_name() for node in network.get_ordered_ops()]
    assert kinds.count("FakeQuantize") == 4
    difference = _probabilities(network, _photos(4)) - _probabilities(_low_rank(), _photos(4))
    assert np.abs(difference).mean() < 0.004
    assert abs(difference.mean()) < 0.001


def test_padded_inputs_that_can_be_negative_are_left_out(tmp_path: Path) -> None:
    """Zeros around a shifted input would count as its lowest value, so such a convolution keeps its format."""
    openvino = pytest.importorskip("openvino")
    measure = pytest.importorskip("pipelines.calibrate").measure
    photo = openvino.opset13.parameter([1, 3, SIDE_PX, SIDE_PX], np.float32)
    features = openvino.opset13.relu(_convolve(photo, "first", 16, 3))
    last = _convolve(_convolve(features, "second", 16, 3), "third", 16, 3)
    openvino.save_model(openvino.Model([last.output(0)], [photo], ""), tmp_path / "own.xml", compress_to_fp16=False)
    stats = measure(Weights(list_models()[0], tmp_path / "own.xml", "0" * 64), lambda: _photos(1))
    assert list(stats.peaks) == ["second"]
    assert not stats.lows


def test_statistics_are_stored_whole(tmp_path: Path) -> None:
    """Ranges of shifted inputs come back from the file; files from before there were any hold none."""
    values = {"a": np.array([1, 2], np.float32), "b": np.array([3, 4, 5], np.float32)}
    stats = CalibrationStats("0" * 64, values, values, {"b": np.array([-3, -2, 0], np.float32)})
    (tmp_path / "new").write_bytes(encode_stats(stats))
    found = read_stats(tmp_path / "new")
    assert {name: low.tolist() for name, low in found.lows.items()} == {"b": [-3, -2, 0]}
    assert {name: peaks.tolist() for name, peaks in found.peaks.items()} == {"a": [1, 2], "b": [3, 4, 5]}
    with np.load(tmp_path / "new") as stored:
        np.savez(tmp_path / "old.npz", **{key: stored[key] for key in stored.files if key not in ("shifted", "lows")})
    assert not read_stats(tmp_path / "old.npz").lows
    assert read_stats(tmp_path / "old.npz").peaks["b"].tolist() == [3, 4, 5]
