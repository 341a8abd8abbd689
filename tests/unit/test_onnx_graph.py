"""ONNX files are changed for another number of pictures; weights that are stored in eight bits become plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cutray.engines.onnx_graph import make_batch_dynamic  # noqa: E402

SIDE = 8


def _write_quantised(path: Path) -> None:
    """Write convolutions as ONNX Runtime's own quantisation does: a step for a whole tensor; two tensors share one."""
    chance = np.random.default_rng(0)
    stored = {
        "codes": chance.integers(-127, 128, (4, 3, 3, 3), np.int8),
        "bias_codes": chance.integers(-99, 100, 4, np.int32),
        "more_codes": chance.integers(-127, 128, (1, 4, 1, 1), np.int8),
        "step": np.float32(0.01),
        "zero": np.int8(0),
        "bias_step": np.float32(0.002),
        "bias_zero": np.int32(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["weights"]),
        helper.make_node("DequantizeLinear", ["bias_codes", "bias_step", "bias_zero"], ["bias"]),
        helper.make_node("DequantizeLinear", ["more_codes", "step", "zero"], ["more"]),
        helper.make_node("Conv", ["photo", "weights", "bias"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["maps", "more"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_a_file_with_a_step_for_each_tensor_gives_the_same_answer(tmp_path: Path) -> None:
    """Nothing that is stored in eight bits is left, and nothing that is still read is missing."""
    path = tmp_path / "quantised.onnx"
    _write_quantised(path)
    photo = np.random.default_rng(1).random((1, 3, SIDE, SIDE), np.float32)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"photo": photo})[0]
    changed, name = make_batch_dynamic(path, SIDE)
    session = onnxruntime.InferenceSession(changed, providers=["CPUExecutionProvider"])
    both = session.run(None, {name: np.concatenate([photo, photo])})[0]
    assert both.shape == (2, 1, SIDE, SIDE)
    assert np.abs(both - expected).max() < 1e-5
    stored = onnx.load_model_from_string(changed).graph.initializer
    assert {tensor.name for tensor in stored} == {"weights", "bias", "more"}
