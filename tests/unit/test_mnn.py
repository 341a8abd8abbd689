"""MNN's own copy of a network: converted once, checked against the original, and made anew when it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cutray.engines import mnn as mnn_engine
from cutray.engines.base import draw_check_picture
from cutray.engines.hardware import inspect_hardware
from cutray.engines.mnn import MnnEngine
from cutray.errors import EngineError

pytestmark = pytest.mark.skipif("MNN" not in inspect_hardware().packages, reason="MNN is not installed")
SIDE_PX = 32
# The key under which a file is kept; it need not be the hash here.
KEY = "a" * 64


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Write the sigmoid of the sum of the channels."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    shapes = [helper.make_tensor_value_info(name, 1, [1, n, SIDE_PX, SIDE_PX]) for name, n in (("x", 3), ("y", 1))]
    nodes = [helper.make_node("Conv", ["x", "w"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["y"])]
    weight = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "small", shapes[:1], shapes[1:], [weight])
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def _load(network: Path, cache: Path | None) -> MnnEngine:
    """Load the network, and see that it computes what it should."""
    engine = MnnEngine(network, SIDE_PX, threads=1, sha256=KEY, cache_dir=cache)
    picture = draw_check_picture(SIDE_PX)
    np.testing.assert_allclose(engine.infer(picture)[0], 1 / (1 + np.exp(-picture[0].sum(0))), atol=1e-5)
    return engine


@pytest.fixture
def kept(network: Path, tmp_path: Path) -> Path:
    """Return the only file of a cache that was filled once."""
    _load(network, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    return path


def test_kept_file_is_used(network: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second load converts nothing and leaves the file alone."""

    def refuse(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(mnn_engine, "convert", refuse)
    before = kept.stat().st_mtime_ns
    _load(network, kept.parent)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_damaged_file_is_made_anew(network: Path, kept: Path, damage: str) -> None:
    """Bytes that are missing or wrong are noticed; the file is whole again afterwards."""
    whole = kept.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0xFF
    kept.write_bytes({"cut": whole[:-5], "changed": bytes(changed), "empty": b""}[damage])
    _load(network, kept.parent)
    assert list(kept.parent.iterdir()) == [kept]
    after = kept.read_bytes()
    assert len(after) == len(whole)
    assert int.from_bytes(after[-4:], "little") == zlib.crc32(after[:-4])


def test_files_of_other_versions_are_removed(network: Path, kept: Path) -> None:
    """A new version of MNN converts anew and leaves no file of the old one; another network's stays."""
    old = kept.with_name(kept.name.replace("-mnn", "-mnn0"))
    other = kept.with_name(kept.name.replace(KEY, "b" * 64))
    kept.rename(old)
    other.write_bytes(b"another network's")
    _load(network, kept.parent)
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, other.name}


def test_folder_that_cannot_be_written(network: Path, tmp_path: Path) -> None:
    """The network runs all the same, and nothing is left behind."""
    (tmp_path / "file").write_text("no folder")
    _load(network, tmp_path / "file" / "cache")
    _load(network, None)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "small.onnx"}


def test_wrong_conversion_is_refused(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that computes something else than the original is not used, and not kept."""
    onnx = pytest.importorskip("onnx")
    right = mnn_engine.convert

    def convert_another(path: Path, *args: object) -> object:
        model = onnx.load(path)
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), 1.1, np.float32), "w"))
        onnx.save(model, tmp_path / "another.onnx")
        return right(tmp_path / "another.onnx", *args)

    monkeypatch.setattr(mnn_engine, "convert", convert_another)
    with pytest.raises(EngineError, match="changes probabilities"):
        MnnEngine(network, SIDE_PX, threads=1, sha256=KEY, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


_SCRIPT = f"""
import sys
from pathlib import Path
from cutray.engines.base import draw_check_picture
from cutray.engines.mnn import MnnEngine
engine = MnnEngine(Path(sys.argv[1]), {SIDE_PX}, threads=1, sha256={KEY!r}, cache_dir=Path(sys.argv[2]))
engine.infer(draw_check_picture({SIDE_PX}))
assert not [name for name in sys.modules if name.startswith(("MNN.tools", "_tools"))]
"""


def test_several_processes_at_once(network: Path, tmp_path: Path) -> None:
    """All of them run, print nothing, load no reporter, and leave one whole file."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def run(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _SCRIPT, str(network), str(tmp_path / "cache")]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    with ThreadPoolExecutor(3) as pool:
        for done in pool.map(run, range(3)):
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (kept,) = (tmp_path / "cache").iterdir()
    assert kept.name.endswith(".mnn")
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "small.onnx"}
