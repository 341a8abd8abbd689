"""Layers of a single map are rewritten for OpenVINO, and compute what they computed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from cutray.engines.single_maps import speed_up_single_maps

SIZE = (48, 40)


def _side_outputs(number_format: type = np.float32, kernel: int = 3, mode: str = "half_pixel") -> Any:
    """Return a network that ends as U²-Net does: convolutions to one map on three grids, enlarged, weighted, added."""
    openvino = pytest.importorskip("openvino")
    ops, rng = openvino.opset13, np.random.default_rng(0)
    sources = [ops.parameter([1, 32, SIZE[0] // step, SIZE[1] // step], number_format) for step in (1, 2, 8)]
    maps = []
    for source in sources:
        weights = ops.constant(rng.standard_normal((1, 32, kernel, kernel)).astype(number_format))
        pads = [kernel // 2, kernel // 2]
        one = ops.add(
            ops.convolution(source, weights, [1, 1], pads, pads, [1, 1]), ops.constant(np.array(0.3, number_format))
        )
        options = {"axes": np.array([2, 3]), "coordinate_transformation_mode": mode}
        maps.append(ops.interpolate(one, np.array(SIZE), "linear_onnx", "sizes", **options) if maps else one)
    weights = ops.constant(np.array([0.5, -1.5, 2], number_format).reshape(1, 3, 1, 1))
    fused = ops.convolution(ops.concat(maps, 1), weights, [1, 1], [0, 0], [0, 0], [1, 1])
    return openvino.Model([fused.output(0)], sources, "side outputs")


def _answer(network: Any) -> np.ndarray:
    import openvino

    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(list(one.get_shape())) for one in network.inputs]
    formats = [one.get_element_type().to_dtype() for one in network.inputs]
    return np.array(compiled([one.astype(kind) for one, kind in zip(inputs, formats, strict=True)])[0], np.float32)


def _kinds(network: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in network.get_ordered_ops())


def test_answers_stay() -> None:
    """Side outputs without a convolution to one map, an enlargement or a concatenation answer as those with them."""
    plain, changed = _side_outputs(), _side_outputs()
    speed_up_single_maps(changed)
    assert _kinds(plain)["Interpolate"] == 2
    assert (_kinds(changed)["Interpolate"], _kinds(changed)["Concat"], _kinds(changed)["MatMul"]) == (0, 0, 4)
    assert _kinds(changed)["Convolution"] == 6
    expected = _answer(plain)
    assert np.std(expected) > 1
    np.testing.assert_allclose(_answer(changed), expected, atol=1e-4)


def test_halves_stay_halves() -> None:
    """A network whose file computes in halves is rewritten, too, where its values allow it."""
    plain, changed = _side_outputs(np.float16), _side_outputs(np.float16)
    speed_up_single_maps(changed)
    assert _kinds(changed)["Convolution"] == 6
    np.testing.assert_allclose(_answer(changed), _answer(plain), atol=0.05)


def test_other_layers_are_left_alone() -> None:
    """Larger kernels, and enlargements that do not meet pixel centres, stay as they are."""
    plain, changed = (_side_outputs(kernel=5, mode="align_corners") for _ in range(2))
    speed_up_single_maps(changed)
    assert (_kinds(changed)["Convolution"], _kinds(changed)["Interpolate"], _kinds(changed)["MatMul"]) == (3, 2, 0)
    np.testing.assert_allclose(_answer(changed), _answer(plain), atol=1e-4)


def test_fractional_factors_are_left_alone() -> None:
    """Enlarged 1.55 times, ten pixels become fifteen, which lie 1 / 1.55 apart and not 10 / 15."""
    openvino = pytest.importorskip("openvino")
    ops = openvino.opset13

    def enlarged() -> Any:
        source = ops.parameter([1, 1, 10, 10], np.float32)
        factors, options = np.array([1.55, 1.55], np.float32), {"axes": np.array([2, 3])}
        options["coordinate_transformation_mode"] = "half_pixel"
        result = ops.interpolate(source, factors, "linear_onnx", "scales", **options)
        return openvino.Model([result.output(0)], [source], "factors")

    changed = enlarged()
    speed_up_single_maps(changed)
    np.testing.assert_allclose(_answer(changed), _answer(enlarged()), atol=1e-6)
