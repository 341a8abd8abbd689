"""Files of settings: whatever a name leads to, reading ends, and says what it found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutray.config import RemoverSettings, parse_settings
from cutray.config.templates import list_templates
from cutray.errors import ConfigError
from cutray.regular_file import read_text
from pipelines.gpu_kit.queue import read_queue
from pipelines.run_settings import load_settings
from serve_apps.config_file import load_config

ROOT = Path(__file__).resolve().parents[2]
READERS: dict[str, Callable[[Path], Any]] = {
    "toml": lambda path: parse_settings(RemoverSettings, {"template": str(path)}),
    "yaml": lambda path: load_settings(None, path),
    "json": read_queue,
    "yml": lambda path: load_config(path, host=None, port=None, engine={}),
}


def test_text_is_read(tmp_path: Path) -> None:
    """A file, a link to one, and what the shell has opened for us."""
    path = tmp_path / "settings.yaml"
    path.write_text("name: Schön", encoding="utf-8")
    (tmp_path / "link").symlink_to(path)
    assert read_text(path) == read_text(tmp_path / "link") == "name: Schön"
    reading, writing = os.pipe()
    os.write(writing, b"seed: 1")
    os.close(writing)
    assert read_text(f"/dev/fd/{reading}") == "seed: 1"
    os.close(reading)


@pytest.mark.parametrize(("kind", "words"), [("pipe", "is a pipe"), ("zero", "is a device"), ("folder", "is a folder")])
@pytest.mark.parametrize("ending", READERS)
def test_what_is_no_file_is_refused_at_once(ending: str, kind: str, words: str, tmp_path: Path) -> None:
    """A pipe that nobody writes to, an endless device and a folder are errors of every reader of settings."""
    path = tmp_path / f"settings.{ending}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(ConfigError, match=words):
        READERS[ending](path)


def test_long_files_and_names_are_refused(tmp_path: Path) -> None:
    """More than 1 MiB is no file of settings."""
    path = tmp_path / "long.yaml"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load_settings(None, path)
    assert "square-white" in list_templates()


def test_process_substitution_is_read(tmp_path: Path) -> None:
    """`--config <(command)` works, as it does with other programs."""
    words = f"{sys.executable} -m cutray train --config <(echo 'seed: 7') --preset smoke --print-config"
    told = subprocess.run(
        ["bash", "-c", words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "seed: 7" in told.stdout.splitlines()
