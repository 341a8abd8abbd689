"""`cutray remove --explain`: a picture of what was detected, beside the cutout."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from cutray.cli import cli
from cutray.errors import OptionError, OutputExistsError
from tests.conftest import require_weights


def run(*words: str) -> int:
    require_weights("u2netp")
    ran = CliRunner().invoke(cli, ["remove", *words, "-m", "u2netp"], catch_exceptions=False, standalone_mode=False)
    return int(ran.return_value)


def test_explanation_is_written_beside_the_cutout(photo_files: Path, tmp_path: Path) -> None:
    """One call gives both files, and neither is overwritten unasked."""
    cutout, why = tmp_path / "cat.png", tmp_path / "why.jpg"
    words = (str(photo_files / "chelsea.jpg"), "-o", str(cutout), "--explain", str(why))
    assert run(*words) == 0
    assert Image.open(cutout).mode == "RGBA"
    assert Image.open(why).width > 451  # the photo and a panel
    cutout.unlink()
    with pytest.raises(OutputExistsError):
        run(*words)


def test_only_one_photo_is_explained(photo_files: Path, tmp_path: Path) -> None:
    """Folders and pipes are refused before any work is done."""
    for source in (str(photo_files), "-"):
        with pytest.raises(OptionError):
            run(source, "-o", str(tmp_path / "out"), "--explain", str(tmp_path / "why.png"))


def test_an_explanation_is_never_left_out_in_silence(photo_files: Path, tmp_path: Path) -> None:
    """A photo that is skipped is not looked at, so there is nothing to explain."""
    words = (str(photo_files / "chelsea.jpg"), "-o", str(tmp_path / "out.png"), "--explain", str(tmp_path / "why.png"))
    with pytest.raises(OptionError, match="together with --skip-existing"):
        run(*words, "--skip-existing")
