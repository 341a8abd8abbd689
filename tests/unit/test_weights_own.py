"""Weights of the user's own, by path, and names that nobody knows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cutray.errors import ChecksumError, ConfigError, UnknownModelError
from cutray.models.int8_stats import find_stats
from cutray.models.weights import resolve


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no model be found that lies on this machine."""
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "cutray"))


def test_own_file(tmp_path: Path) -> None:
    """A path is taken as it is; a description beside it tells how its input is prepared."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"weights")
    found = resolve(str(path))
    assert (found.path, found.spec.architecture, found.spec.scale) == (path, "u2netp", "max")
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "mine.toml").write_text('input_size_px = 512\nscale = "255"\nmean = [0, 0, 0]\n')
    spec = resolve(str(path)).spec
    assert (spec.input_size_px, spec.scale, spec.mean) == (512, "255", (0.0, 0.0, 0.0))
    (tmp_path / "mine.toml").write_text(f'sha256 = "{"0" * 64}"')
    with pytest.raises(ChecksumError):
        resolve(str(path))


def test_description_beside_a_copy_of_a_known_model(tmp_path: Path) -> None:
    """It has the last word there too, and what it leaves out is the known model's."""
    known = resolve("u2net-lean")
    path = tmp_path / "mine.onnx"
    path.symlink_to(known.path)
    assert resolve(str(path)).spec == known.spec
    (tmp_path / "mine.toml").write_text("input_size_px = 256")
    spec = resolve(str(path)).spec
    assert (spec.name, spec.input_size_px, spec.scale, spec.cpu_precisions) == ("mine", 256, "max", ("int8", "bf16"))
    assert find_stats(resolve(str(path))).name == "u2net-lean.int8.npz"


def test_networks_of_one_file_that_see_the_photo_otherwise_differ(tmp_path: Path) -> None:
    """What is done, kept or compared by network goes by file and preparation; the usual one adds nothing."""
    usual, smaller = resolve("u2net-lean"), resolve("u2net-lean-288")
    assert usual.sha256 == smaller.sha256
    assert usual.identity == usual.sha256 != smaller.identity
    assert len(smaller.identity) == 64
    together = resolve("u2net-lean+u2net-lean-288")
    assert together.identity == together.sha256 != resolve("u2net-lean+u2netp-distilled").sha256
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"weights")
    assert resolve(str(path)).identity == resolve(str(path)).sha256
    seen = set()
    for text in ("input_size_px = 288", "mean = [0, 0, 0]", "std = [1, 1, 1]", 'scale = "255"'):
        (tmp_path / "mine.toml").write_text(text)
        seen.add(resolve(str(path)).identity)
    assert len(seen) == 4 and resolve(str(path)).sha256 not in seen
    (tmp_path / "mine.toml").write_text('description = "mine"')
    assert resolve(str(path)).identity == resolve(str(path)).sha256


def test_own_file_of_another_side(tmp_path: Path) -> None:
    """Without a description the side that an ONNX file fixes is taken; it must not be run at the usual one."""
    helper = pytest.importorskip("onnx.helper")
    picture = [helper.make_tensor_value_info(name, 1, [1, 3, 512, 512]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["in"], ["out"])], "g", picture[:1], picture[1:])
    path = tmp_path / "mine.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    assert resolve(str(path)).spec.input_size_px == 512
    (tmp_path / "mine.toml").write_text('description = "says nothing of it"')
    assert resolve(str(path)).spec.input_size_px == 512
    (tmp_path / "mine.toml").write_text("input_size_px = 320")
    assert resolve(str(path)).spec.input_size_px == 320


@pytest.mark.parametrize("name", ["n" * 300 + ".onnx", "~nobody-here/a+b", "n" * 300 + "+u2net"])
def test_names_that_no_file_can_have(name: str) -> None:
    """A name that is too long for a file, or in a home that is not known, is no model."""
    with pytest.raises((UnknownModelError, ConfigError)):
        resolve(name, offline=True)


@pytest.mark.parametrize(
    "text", ["nonsense = 1", "scale = 255", "std = [0, 1, 1]", "mean = [1]", "input_size_px = -5", "= broken"]
)
def test_wrong_description(tmp_path: Path, text: str) -> None:
    """A description with wrong keys or values is an error that names the file."""
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        resolve(str(tmp_path / "mine.onnx"))


@pytest.mark.parametrize("name", ["../u2net", "/etc/hostname", "nowhere.onnx", "", "u2nett"])
def test_unknown_names(name: str) -> None:
    """What is neither a name in the table nor a file of weights is refused."""
    with pytest.raises(UnknownModelError, match="u2netp"):
        resolve(name)


def test_suggestion() -> None:
    """A name with a slip brings the right one to mind."""
    with pytest.raises(UnknownModelError, match=r"(?i)perhaps .u2net. is meant"):
        resolve("u2nett")
