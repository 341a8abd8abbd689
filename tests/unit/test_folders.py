"""Where the cache is: with and without a home, with odd values of the variables that move it."""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutray import folders
from cutray.errors import ConfigError
from cutray.folders import cache_dir, data_dir, expand_user, provide_home
from cutray.models.weights import locate
from tests.network_watch import watched_environment

VARIABLES = ("CUTRAY_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "U2NET_HOME", "REMBG_HOME")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of one's own, with a home in it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    folders._temporary_cache.cache_clear()
    return tmp_path / "home"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user reaches; pytest's own ones are closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _have_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user id that neither the environment nor the user database knows."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54_321_000)


@pytest.mark.parametrize("value", ["", "  ", "relative/folder", "~/caches"])
def test_unusable_base_is_ignored(value: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or relative XDG_CACHE_HOME counts as not set, as its specification demands."""
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("XDG_DATA_HOME", value)
    assert cache_dir() == home / ".cache" / "cutray"
    assert data_dir("rembg", ".rembg") == home / ".rembg"


@pytest.mark.parametrize("name", [" with spaces ", "żółw 龜 🐢", "quote'\"$HOME", "new\nline"])
def test_names_of_folders_are_taken_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any characters, in each of the variables."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / name))
    assert cache_dir() == tmp_path / name / "cutray"
    assert data_dir("rembg", ".rembg") == tmp_path / name / "rembg"
    monkeypatch.setenv("CUTRAY_HOME", name)
    assert cache_dir() == tmp_path / name


def test_own_variable_knows_the_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not replace ~ within quotes."""
    monkeypatch.setenv("CUTRAY_HOME", "~/models")
    assert cache_dir() == home / "models"
    monkeypatch.setenv("CUTRAY_HOME", "  ")
    assert cache_dir() == home / ".cache" / "cutray"


def test_without_a_home_nothing_is_named_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A private temporary folder serves as cache, with one note; a written ~ is an error that says so."""
    _have_no_home(monkeypatch)
    with caplog.at_level(logging.WARNING):
        # Another user's folder of that name is not taken: this process is not the user of that number.
        assert cache_dir() == cache_dir()
    assert cache_dir().parent == tmp_path / "tmp"
    assert cache_dir().stat().st_mode & 0o777 == 0o700
    assert [record.message for record in caplog.records] == [
        f"this user has no home folder: downloads are kept in {cache_dir()}. Set CUTRAY_HOME to a folder that lasts"
    ]
    assert data_dir("rembg", ".rembg") is None
    monkeypatch.setenv("CUTRAY_HOME", "~/models")
    with pytest.raises(ConfigError, match=r"CUTRAY_HOME is '~/models'.*Write the path in full"):
        cache_dir()
    assert not (tmp_path / "~").exists()


def test_file_with_a_tilde_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that only looks like a home is that of a file."""
    (tmp_path / "~backup.onnx").touch()
    assert expand_user("~backup.onnx", "the model") == Path("~backup.onnx")
    assert expand_user("a~b", "the model") == Path("a~b")


def test_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a home such as /nonexistent the cache is temporary; one that is there is used though it is read-only."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cache_dir().parent == tmp_path / "tmp"
    (tmp_path / "home" / ".cache" / "cutray").mkdir(parents=True)
    assert cache_dir() == tmp_path / "home" / ".cache" / "cutray"


def test_temporary_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write to the cache could put other weights into it."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tmp_path / "tmp" / f"cutray-{os.getuid()}").mkdir()
    (tmp_path / "tmp" / f"cutray-{os.getuid()}").chmod(0o777)
    assert cache_dir() != tmp_path / "tmp" / f"cutray-{os.getuid()}"
    assert cache_dir().stat().st_mode & 0o777 == 0o700


def test_models_are_looked_for_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged model is found, and others are missing without an error."""
    from cutray.models.weights import list_models

    _have_no_home(monkeypatch)
    assert {spec.name for spec in list_models() if locate(spec)} >= {"u2netp-distilled"}


def test_libraries_get_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow cannot even be imported without one; the cache stays where it is."""
    _have_no_home(monkeypatch)
    for name in ("HOME", "CUTRAY_HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    before = cache_dir()
    provide_home()
    assert cache_dir() == before == Path(os.environ["HOME"])
    assert getpass.getuser() == "uid-54321000"
    provide_home()
    assert cache_dir() == before


def test_home_that_is_there_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set where nothing is missing."""
    monkeypatch.setenv("LOGNAME", "somebody")
    provide_home()
    assert os.environ["HOME"] == str(home)
    assert "CUTRAY_HOME" not in os.environ
    assert os.environ["LOGNAME"] == "somebody"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may become another user")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is missing")
def test_unknown_user_cuts_out(open_folder: Path) -> None:
    """A container's user without name and home gets the cutout, and nothing else appears beside it."""
    from PIL import Image

    work = Path(watched_environment(open_folder)["HOME"]).with_name("work")
    photo = Image.new("RGB", (160, 120), "steelblue")
    photo.paste("orange", (50, 30, 110, 90))
    photo.save(work / "photo.png")
    (open_folder / "tmp").mkdir(mode=0o777)
    (open_folder / "tmp").chmod(0o777)
    work.chmod(0o777)
    # The right to read everything, since the interpreter may lie in root's home.
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", *rights]
    path = os.pathsep.join(sys.path)
    environment = ["env", "-i", f"PATH={os.environ['PATH']}", f"PYTHONPATH={path}", f"TMPDIR={open_folder / 'tmp'}"]
    command = [sys.executable, "-m", "cutray.cli", "remove", "photo.png", "-m", "u2netp-distilled"]
    done = subprocess.run(
        [*user, *environment, *command], cwd=work, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip("this machine does not let root pass rights on")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in work.iterdir()) == ["photo-cutout.png", "photo.png"]
    assert [path.name for path in (open_folder / "tmp").iterdir()] == ["cutray-54321"]
