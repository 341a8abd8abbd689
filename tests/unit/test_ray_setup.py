"""Where Ray keeps its sockets, what its workers import, and whose packages the verbs are from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cutray.errors import ConfigError
from cutray.ray_setup import installed_code_config, use_short_temp_dir


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a patch that takes back what is set in the environment, and start without Ray's own variable."""
    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.delenv("RAY_TMPDIR")
    return monkeypatch


def test_long_or_closed_temp_dir_gives_way(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A long TMPDIR, one with long characters and one that is a file make Ray use another folder."""
    (tmp_path / "file").touch()
    for folder in ("/scratch/" + "a" * 40, "/scratch/" + "ü" * 20, str(tmp_path / "file")):
        environment.delenv("RAY_TMPDIR", raising=False)
        environment.setenv("TMPDIR", folder)
        use_short_temp_dir()
        assert os.environ["RAY_TMPDIR"] == "/tmp"


def test_short_temp_dir_stays(environment: pytest.MonkeyPatch) -> None:
    """A folder that Ray can use is left to it, also one that does not exist yet."""
    environment.setenv("TMPDIR", "/tmp/of mine")
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
