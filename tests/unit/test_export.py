"""`cutray export` never writes into what it exports, and writes nothing before its photos are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from cutray.console.run import run
from cutray.imaging.encode import encode_image
from cutray.models.weights import resolve
from pipelines.export import export


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy a packaged network to a name of the user's own, in a folder that is the current one."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models"
    folder.mkdir()
    return Path(shutil.copy(resolve("u2netp-distilled", offline=True).path, folder / "shoes.fp16.onnx"))


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    "output",
    [[], ["-o", "models/../models/shoes.fp16.onnx"], ["-o", "link.onnx"], ["-o", "models/shoes.onnx", "--fp16"]],
)
def test_the_original_is_never_replaced(
    output: list[str], more: list[str], own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its own name, another spelling of it, a link to it, or as one of several outputs: the original stays."""
    (own_file.parent.parent / "link.onnx").symlink_to(own_file)
    before = own_file.read_bytes()
    assert run(export, [str(own_file), *output, *more]) == 2
    assert "name another file with -o" in capsys.readouterr().err.lower()
    assert own_file.read_bytes() == before
    assert [path.name for path in own_file.parent.iterdir()] == [own_file.name]


def test_photos_are_read_before_anything_is_written(own_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A photo that cannot be read is named, and no output is left behind."""
    photos = own_file.parent.parent / "photos"
    photos.mkdir()
    (photos / "Thumbs.db").write_bytes(b"no photo")
    (photos / "a.png").write_bytes(encode_image(np.zeros((32, 32, 3), np.uint8), "PNG"))
    (photos / "b.jpg").write_bytes(b"no photo")
    assert run(export, [str(own_file), "-o", "new.onnx", "--images", str(photos)]) == 1
    assert f"{photos / 'b.jpg'} cannot be used: the content is" in capsys.readouterr().err
    assert not Path("new.onnx").exists()
