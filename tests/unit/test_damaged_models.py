"""A file of weights that is damaged, or is something else, is an error of ours with every engine."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cutray.config import EngineSettings
from cutray.errors import EngineError, WeightsError
from cutray.models.weights import resolve
from cutray.segmenter import Segmenter

WHOLE = resolve("u2netp-distilled").path.read_bytes()
ENGINES = ("openvino", "onnxruntime", "pytorch")


def _flipped() -> bytes:
    data, rng = bytearray(WHOLE), random.Random(0)
    for _ in range(200):
        data[rng.randrange(len(data))] ^= 0x10
    return bytes(data)


def _graph(kind: str, shape: list[int], *, op: str = "Identity", outputs: bool = True) -> bytes:
    """Return a sound ONNX file of another network."""
    onnx = pytest.importorskip("onnx")
    helper, element = onnx.helper, getattr(onnx.TensorProto, kind)
    node = helper.make_node(op, ["x"], ["y"], domain="elsewhere" if op != "Identity" else "")
    values = [helper.make_tensor_value_info(name, element, shape) for name in "xy"]
    graph = helper.make_graph([node], "graph", values[:1], values[1:]) if outputs else None
    graph = graph or helper.make_graph([], "graph", [], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _without_its_data() -> bytes:
    """Return an ONNX file whose weights lie in another file, which is missing."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(WHOLE)
    onnx.external_data_helper.convert_model_to_external_data(model, location="missing.bin", size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())


ONNX_FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"hello world",
    "half": lambda: WHOLE[: len(WHOLE) // 2],
    "without its end": lambda: WHOLE[:-1000],
    "noise": lambda: random.Random(0).randbytes(10_000),
    "flipped bits": _flipped,
    "three maps": lambda: _graph("FLOAT", [1, 3, 320, 320]),
    "integers": lambda: _graph("UINT8", [1, 3, 320, 320]),
    "no pictures": lambda: _graph("FLOAT", [4]),
    "unknown layer": lambda: _graph("FLOAT", [1, 3, 320, 320], op="Foo"),
    "no layers": lambda: _graph("FLOAT", [1], outputs=False),
    "data missing": _without_its_data,
}


def _load_and_run(path: Path, engine: str) -> None:
    segmenter = Segmenter.load(EngineSettings(model=str(path), engine=engine))
    segmenter.segment([np.zeros((32, 32, 3), np.uint8)])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ONNX_FILES)
def test_onnx_file(name: str, engine: str, tmp_path: Path) -> None:
    """Its name is in the message."""
    pytest.importorskip({"pytorch": "torch"}.get(engine, engine))
    path = tmp_path / "model.onnx"
    path.write_bytes(ONNX_FILES[name]())
    with pytest.raises((EngineError, WeightsError)) as caught:
        _load_and_run(path, engine)
    assert "\x1b" not in str(caught.value)


def _saved(value: object) -> bytes:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save(value() if callable(value) else value, stream)
    return stream.getvalue()


TORCH_FILES: dict[str, Callable[[], bytes]] = {
    "empty.pth": lambda: b"",
    "text.pth": lambda: b"hello",
    "noise.pth": lambda: random.Random(0).randbytes(1000),
    "half.pth": lambda: _saved({"a": 1})[:200],
    "list.pth": lambda: _saved([1, 2]),
    "module.pth": lambda: _saved(lambda: pytest.importorskip("torch").nn.Linear(2, 2)),
    "other.pth": lambda: _saved(lambda: {"a": pytest.importorskip("torch").zeros(3)}),
    "empty.safetensors": lambda: b"",
    "text.safetensors": lambda: b'{"a": 1}',
    "noise.safetensors": lambda: random.Random(0).randbytes(1000),
}


@pytest.mark.parametrize("name", TORCH_FILES)
def test_torch_file(name: str, tmp_path: Path) -> None:
    """Its name is in the message, and no advice on how to run its code."""
    pytest.importorskip("torch")
    (tmp_path / name).write_bytes(TORCH_FILES[name]())
    with pytest.raises(WeightsError, match=name) as caught:
        _load_and_run(tmp_path / name, "pytorch")
    assert "weights_only" not in str(caught.value)
