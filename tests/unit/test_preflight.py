"""What is wrong for every photo is found before a model is loaded, with exit code 2, and nothing is written."""

from __future__ import annotations

import ntpath
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.cli import cli
from cutray.config import RemoverSettings
from cutray.console.run import run
from cutray.errors import OptionError, OutputError
from cutray.preflight import check_background, check_output_settings, check_writable
from cutray.remover import BackgroundRemover
from tests.disks import mounted

# No such weights are on any machine, so whoever loads them first answers with another error.
_MODEL = ["-m", "nowhere.onnx", "--offline"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two photos, a damaged picture and a file of the user's, as the current one."""
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


_MISTAKES = [
    (["a.jpg", "--background", "pupple"], "'pupple' is neither a colour nor a picture"),
    (["a.jpg", "--background", "nowhere.jpg"], "'nowhere.jpg' is neither"),
    (["a.jpg", "--background", "damaged.png"], "'damaged.png' cannot be used"),
    (["a.jpg", "--background", "file"], "'file' cannot be used"),
    (["a.jpg", "--background", "300,0,0"], "'300,0,0' is neither"),
    (["a.jpg", "--format", "jpeg"], "JPEG, which cannot be transparent"),
    (["a.jpg", "-o", "out.jpg"], "JPEG, which cannot be transparent"),
    (["a.jpg", "-o", "out.gif"], "'out.gif' names no format"),
    (["a.jpg", "-o", "out"], "'out' names no format"),
    (["a.jpg", "-o", "mine.png"], "'mine.png' exists"),
    (["a.jpg", "-o", "out.webp", "--bit-depth", "16"], "16 bits per channel for WEBP"),
    (["a.jpg", "--crop-margin", "5%"], "crop_margin = '5%' without crop"),
    (["a.jpg", "--crop", "--crop-margin", "wide"], "allowed is pixels (20px) or percent"),
    (["a.jpg", "b.jpg", "-o", "one.png"], "the file 'one.png'"),
    (["a.jpg", "b.jpg", "-o", "-"], "several photos for standard output"),
    (["a.jpg", "-", "-o", "out/"], "- together with other photos"),
    (["a.jpg", "--explain", "why.gif"], "'why.gif' names no format"),
    (["a.jpg", "--explain", "mine.png"], "'mine.png' exists"),
    (["a.jpg", "b.jpg", "--explain", "why.png"], "--explain for a pipe or several photos"),
    (["a.jpg", "--report", "report.xls"], "an ending of .json or .csv"),
    (["a.jpg", "--watch"], "--watch for something else than a folder"),
    (["a.jpg", "-o", "-", "--json"], "--json and a picture"),
    (["a.jpg", "--quality", "5"], "'5' is not one of"),
    (["a.jpg", "--threshold", "7"], "threshold = 7"),
]
_OF_ONE_PHOTO = {"-o", "--explain", "--watch"}
_MISTAKES += [(["more", *rest], said) for (_, *rest), said in _MISTAKES if not _OF_ONE_PHOTO & set(rest)]


@pytest.mark.parametrize(("arguments", "said"), _MISTAKES)
def test_wrong_option_is_found_first(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each mistake is answered by itself, for one photo and for a folder, and every file is as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(cli, ["remove", *arguments, *_MODEL]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "nowhere.onnx" not in shown.err and "pattern" not in shown.err
    assert shown.out == ""
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_outputs_that_all_exist_are_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of others in the place of all results are named before any work, and stay as they are."""
    for name in ("a-cutout.png", "b-cutout.png"):
        (folder / name).write_bytes(b"mine")
    assert run(cli, ["remove", "a.jpg", "b.jpg", *_MODEL]) == 2
    assert "'a-cutout.png', 'b-cutout.png' exist" in capsys.readouterr().err
    assert (folder / "a-cutout.png").read_bytes() == b"mine"


def test_output_below_a_file_is_found_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder for results that is a file cannot be written to, which is said before the model is loaded."""
    assert run(cli, ["remove", "a.jpg", "-o", "file/out.png", *_MODEL]) == 1
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("sources", [[""], ["a.jpg", ""]])
def test_empty_names_are_not_the_current_folder(
    sources: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable of the shell that is not set must not have the whole current folder cut out."""
    assert run(cli, ["remove", *sources, *_MODEL]) == 2
    assert "an empty name among the photos" in capsys.readouterr().err
    assert not list(folder.parent.glob("*-cutouts"))


def test_link_that_leads_nowhere_is_found_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its name is taken, which is said before the model is loaded."""
    (folder / "link.png").symlink_to("nowhere.png")
    assert run(cli, ["remove", "a.jpg", "-o", "link.png", *_MODEL]) == 2
    assert "'link.png' exists" in capsys.readouterr().err


def test_descriptor_that_is_not_open_is_found_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that the shell has not opened is named before the model is loaded."""
    assert run(cli, ["remove", "a.jpg", "-o", "/dev/fd/999", *_MODEL]) == 1
    assert "cannot write '/dev/fd/999'" in capsys.readouterr().err
    assert (folder / "a.jpg").is_file()


@pytest.mark.parametrize(
    "options", [{"background": "pupple"}, {"background": "damaged.png"}, {"format": "webp", "bit_depth": 16}]
)
def test_library_finds_what_is_wrong_for_all_photos_first(options: dict[str, Any], folder: Path) -> None:
    """A wrong option ends a run over many photos before the first one, instead of being the error of each."""
    remover = BackgroundRemover.__new__(BackgroundRemover)  # as it arrives by pickle: its network is not loaded yet
    remover.__setstate__({"settings": RemoverSettings(model="nowhere.onnx")})
    with pytest.raises(OptionError):
        list(remover.remove_many([folder / "a.jpg", folder / "b.jpg"], **options))


@pytest.mark.parametrize("background", ["white", "#f80", "1,2,3", "blur", "a.jpg", None])
def test_good_backgrounds_pass(background: str | None, folder: Path) -> None:
    """Colors, blur and pictures that can be read pass."""
    check_background(RemoverSettings(background=background))
    assert (folder / "a.jpg").is_file()


@pytest.mark.parametrize(
    ("settings", "names", "good"),
    [
        ({}, [None, "a.png", "b.webp"], True),
        ({}, ["a.png", "b.jpg"], False),
        ({"background": "white"}, ["a.png", "b.jpg"], True),
        ({"bit_depth": 16}, ["a.png", "b.tiff"], True),
        ({"bit_depth": 16}, ["a.png", "b.avif"], False),
        ({"format": "webp", "bit_depth": 16}, [None], False),
        ({"format": "png"}, ["without_ending"], True),
    ],
)
def test_every_ending_is_checked(settings: dict[str, object], names: Sequence[str | None], good: bool) -> None:
    """One file of a wrong format among many is found."""
    checked = RemoverSettings.model_validate(settings)
    if good:
        check_output_settings(checked, names)
    else:
        with pytest.raises(OptionError):
            check_output_settings(checked, names)


def test_folders_that_do_not_exist_yet_can_be_written(tmp_path: Path) -> None:
    """Missing folders will be made; a file on the way is an error."""
    check_writable(tmp_path / "new" / "deep" / "x.png")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a folder"):
        check_writable(tmp_path / "file" / "deep" / "x.png")


def test_a_drive_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the folder above a drive or a share is itself, so that the search for one that exists must end."""
    asked: list[str] = []

    def is_there(path: str) -> bool:
        asked.append(path)
        assert len(asked) < 9
        return False

    monkeypatch.setattr(ntpath, "lexists", is_there)
    for root in ("Z:\\", "\\\\nowhere\\share\\"):
        asked.clear()
        with monkeypatch.context() as windows:
            windows.setattr(os, "path", ntpath)
            with pytest.raises(OutputError) as caught:
                check_writable(root + "new\\deep\\x.png")
        assert caught.value.got == f"{root!r} is not a folder"


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    """Where nothing can be written whatever the rights, the message says so before any work."""
    with mounted(tmp_path, "ro"), pytest.raises(OutputError, match="read-only file system"):
        check_writable(tmp_path / "new" / "x.png")
