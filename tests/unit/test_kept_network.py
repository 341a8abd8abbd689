"""The compiled network that OpenVINO keeps in the cache: used again, made anew when damaged, refused by no one."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from cutray.engines import openvino as openvino_engine
from cutray.engines.kept_file import KeptFile
from cutray.engines.openvino import OpenVinoEngine, read_network

pytest.importorskip("openvino")
SIDE_PX = 32


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Write the sigmoid of a convolution that is large enough for its weights to stay where they are read from."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    shapes = [helper.make_tensor_value_info(name, 1, [1, n, SIDE_PX, SIDE_PX]) for name, n in (("x", 3), ("y", 1))]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["wide", "w2"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["sum"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 20, name)
        for name, shape in (("w1", (64, 3, 3, 3)), ("w2", (1, 64, 3, 3)))
    ]
    graph = helper.make_graph(nodes, "small", shapes[:1], shapes[1:], weights)
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_network_in_fp32_is_kept(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second load reads no ONNX file and computes the same bits; bytes that OpenVINO refuses are made anew."""
    picture = np.random.default_rng(1).standard_normal((1, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    made: list[Path] = []

    def count(core: object, path: Path, input_size_px: int) -> object:
        made.append(path)
        return read_network(core, path, input_size_px)

    def infer(threads: int = 1) -> np.ndarray:
        engine = OpenVinoEngine(
            network, SIDE_PX, precision="fp32", threads=threads, sha256="a" * 64, cache_dir=tmp_path / "cache"
        )
        gc.collect()  # what the engine needs must not be what nobody holds
        return engine.infer(picture)

    monkeypatch.setattr(openvino_engine, "read_network", count)
    first = infer()
    (kept,) = (tmp_path / "cache").iterdir()
    assert np.array_equal(infer(threads=2), first)
    assert len(made) == 1
    KeptFile(kept, "*.blob").write(b"whole, but no network")
    assert np.array_equal(infer(), first)
    assert np.array_equal(infer(), first)
    assert len(made) == 2
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize("content", [b"", b"abc", b"abcd", b"abcdefgh"])
def test_file_without_its_checksum_is_not_read(tmp_path: Path, content: bytes) -> None:
    """An empty file, one that is all checksum, and one with a wrong one are not whole."""
    kept = KeptFile(tmp_path / "file.blob", "*.blob")
    kept.path.write_bytes(content)
    assert kept.read() is None
    assert not kept.is_whole()


def test_kept_bytes_come_back(tmp_path: Path) -> None:
    """What was written is read, and changing it in memory changes no file."""
    kept = KeptFile(tmp_path / "folder" / "file.blob", "*.blob")
    assert kept.read() is None
    kept.write(memoryview(b"content"))
    content = kept.read()
    assert content is not None
    assert content.tobytes() == b"content"
    content[0] = 0
    assert kept.is_whole()
