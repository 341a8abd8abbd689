"""Arguments of the endpoint that would fail in a replica are refused before anything starts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from cutray.errors import ConfigError
from serve_apps.config_file import CONFIG, load_config
from serve_apps.remover.app import build

HASH = hashlib.sha256(b"open sesame").hexdigest()


def write(tmp_path: Path, **args: Any) -> Path:
    """Write the local YAML with other arguments."""
    config = yaml.safe_load(CONFIG.read_text())
    config["applications"][0]["args"] |= args
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"api_keys": {"shop": "open sesame"}}, "'shop' is not given as a hash"),
        ({"api_keys": {"shop": HASH[:-1]}}, "64 hexadecimal digits"),
        ({"api_keys": {"shop": HASH}, "admin_keys": ["ops"]}, "admin_keys names 'ops'"),
        ({"jobs": {"sources": ["cdn.example"]}}, "cdn.example"),
        ({"jobs": {"sources": ["https://user@cdn.example/"]}}, "without a user name"),
        ({"jobs": {"sources": ["https://cdn.example/photos/..;/"]}}, "without . and .."),
        ({"jobs": {"targets": ["https://cdn.example/"]}}, "s3://"),
        ({"jobs": {"webhooks": ["s3://bucket/"]}}, "https://, http://"),
        ({"jobs": {"webhooks": ["https://hooks.example/?token=1"]}}, "entry"),
        ({"jobs": {"database": "postgres"}}, "jobs.database is no address"),
        ({"jobs": {"database": "mysql://user@host/jobs"}}, "jobs.database is no address"),
        ({"jobs": {"folder": "jobs", "upload_timeout_s": 51}}, "request_timeout_s 60"),
    ],
)
def test_wrong_arguments_are_refused_with_the_yaml(tmp_path: Path, args: dict[str, Any], told: str) -> None:
    """Each is an error of the configuration that says what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, **args), host=None, port=None, engine={})
    assert told in str(caught.value) and caught.value.fix


def test_wrong_arguments_are_refused_on_a_cluster() -> None:
    """The builder, which `serve deploy` calls, refuses them, too: no replica starts and fails again and again."""
    with pytest.raises(ConfigError, match="not given as a hash"):
        build({"api_keys": {"shop": "open sesame"}})
    with pytest.raises(ConfigError, match="ftp"):
        build({"jobs": {"folder": "jobs", "webhooks": ["ftp://hooks.example/"]}})


def test_the_program_ends_with_2(tmp_path: Path) -> None:
    """A folder that cannot be there ends `cutray serve` before Ray starts, with one line that names it."""
    (tmp_path / "file").touch()
    config = write(tmp_path, jobs={"folder": str(tmp_path / "file" / "jobs")})
    command = [sys.executable, "-m", "cutray", "serve", "--config", str(config), "--offline"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "a folder that can be written" in ended.stderr
