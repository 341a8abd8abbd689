"""Where Ray keeps its sockets, what its workers import, and whose packages the verbs are from."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cutray.console.ray_setup import installed_code_config, set_local_token, use_short_temp_dir
from cutray.errors import ConfigError


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a patch that takes back what is set in the environment, and start without Ray's own variable."""
    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.delenv("RAY_TMPDIR")
    return monkeypatch


@pytest.mark.parametrize("folder", ["/scratch/" + "a" * 40, "/scratch/ü", "/nowhere", "tmp", "/etc/passwd"])
def test_unusable_temp_dir_gives_way(
    folder: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A TMPDIR that is long, missing, relative, a file or has other letters gives way, with a note."""
    environment.setenv("TMPDIR", folder)
    use_short_temp_dir()
    assert os.environ["RAY_TMPDIR"] == "/tmp"
    assert "note: TMPDIR" in capsys.readouterr().err


def test_empty_temp_dir_is_none(environment: pytest.MonkeyPatch) -> None:
    """An empty TMPDIR would put Ray's files below the current folder."""
    environment.setenv("TMPDIR", "")
    use_short_temp_dir()
    assert os.environ["RAY_TMPDIR"] == "/tmp"


def test_short_temp_dir_stays(environment: pytest.MonkeyPatch) -> None:
    """A folder that Ray can use is left to it."""
    with tempfile.TemporaryDirectory(prefix="of mine ", dir="/tmp") as folder:
        environment.setenv("TMPDIR", folder)
        use_short_temp_dir()
    assert "RAY_TMPDIR" not in os.environ


def test_own_choice_is_not_overruled(environment: pytest.MonkeyPatch) -> None:
    """Whoever sets RAY_TMPDIR to a long path is told, not overruled."""
    environment.setenv("RAY_TMPDIR", "/scratch/" + "a" * 40)
    with pytest.raises(ConfigError, match="RAY_TMPDIR"):
        use_short_temp_dir()


def test_workers_get_no_folder_to_search() -> None:
    """Whatever Ray adds to the search path of its workers is dropped, and does not reach them."""
    pytest.importorskip("ray")
    config = installed_code_config()
    config._py_driver_sys_path.extend(["/home/me/project"])
    assert b"/home/me/project" not in config._serialize()


@pytest.mark.parametrize("variables", [{}, {"PYTHONPATH": "."}], ids=["python -m", "PYTHONPATH"])
@pytest.mark.parametrize("name", ["pipelines.py", "serve_apps/__init__.py", "serve_apps.py"])
def test_verbs_are_ours(tmp_path: Path, name: str, variables: dict[str, str]) -> None:
    """Packages of another project with our names are passed over, in this process and in those that it starts."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('another project')\n")
    worker = tmp_path / "elsewhere" / "worker.py"
    worker.parent.mkdir()
    worker.write_text("import pipelines.ray_session, serve_apps.config_file\n")
    script = (
        "from cutray.console.own_packages import prefer_own_packages as own; own()\n"
        "import subprocess, sys, pipelines.ray_session, serve_apps.config_file\n"
        f"sys.exit(subprocess.call([sys.executable, {str(worker)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_cluster_of_ones_own_has_a_token() -> None:
    """The token is new, unless the user has one or wants none."""
    environ = {"RAY_AUTH_MODE": "token"}
    set_local_token(environ)
    assert len(environ["RAY_AUTH_TOKEN"]) == 64
    for kept in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/x"}):
        before = dict(kept)
        set_local_token(kept)
        assert kept == before


def test_python_m_cutray_does_not_look_into_the_current_folder(tmp_path: Path) -> None:
    """Files of the user's own named like ours or like a library are not imported."""
    for name in ("pipelines", "serve_apps", "numpy", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    done = subprocess.run(
        [sys.executable, "-m", "cutray", "bench", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rembg" in done.stdout
