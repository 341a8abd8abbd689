"""A mistake in the YAML is told, at the start and while the endpoint runs, which goes on as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from cutray.errors import ConfigError
from serve_apps.config_file import CONFIG, load_config
from serve_apps.reload import Reloader

# What is changed in the YAML, and a word of what is said about it.
MISTAKES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "number for a list": (lambda _, app: app["args"].update(models=7), "models = 7"),
    "deployment without a name": (lambda _, app: app["deployments"].append({"name": None}), "name"),
    "deployment with a number": (lambda _, app: app["deployments"].append({"name": 5}), "name"),
    "deployment with a list": (lambda _, app: app["deployments"].append(["name"]), "no configuration"),
    "number for a folder": (lambda _, app: app["args"].update(jobs={"folder": 2026}), "jobs.folder = 2026"),
    "number for a model": (lambda _, app: app["deployments"][2].update(user_config={"model": 3}), "model = 3"),
    "list for a model": (
        lambda _, app: app["deployments"].append({"name": "Segmenter-a", "user_config": [1]}),
        "user_config",
    ),
    "word for a number": (
        lambda config, _: config["http_options"].update(request_timeout_s="soon"),
        "request_timeout_s",
    ),
    "Segmenter with a number": (lambda _, app: app["deployments"][2].update(user_config=7), "no configuration"),
}


class Endpoint:
    """Stands where a Ray of our own would be: notes what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        """Keep the error with which it refuses."""
        self.applied: list[dict[str, Any]] = []
        self._error = error

    def apply(self, config: dict[str, Any]) -> None:
        """Note a configuration, or refuse it."""
        if self._error:
            raise self._error
        self.applied.append(config)

    def is_running(self) -> bool:
        """Return that all replicas have it."""
        return True

    def swap_error(self) -> str | None:
        """Return that every model was loaded."""
        return None


def load(path: Path) -> dict[str, Any]:
    """Read a YAML without options."""
    return load_config(path, host=None, port=None, engine={})


def write(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object] = lambda *_: None) -> None:
    """Write the local YAML with a change."""
    config = yaml.safe_load(CONFIG.read_text())
    change(config, config["applications"][0])
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_yaml_keeps_the_old_configuration(tmp_path: Path, name: str) -> None:
    """It is an error of the configuration at the start, and a line at a reload; nothing is applied."""
    path, said, endpoint, ended = tmp_path / "serve.yaml", list[str](), Endpoint(), threading.Event()
    write(path)
    reloader = Reloader(endpoint, load(path), lambda: load(path), said.append, ended)
    change, told = MISTAKES[name]
    write(path, change)
    with pytest.raises(ConfigError, match=told):
        load(path)
    reloader.reload()
    (line,) = said
    assert line.startswith("cutray: kept the old configuration: ") and told in line and "\n" not in line
    assert not endpoint.applied
    write(path, lambda _, app: app["args"].update(page=False))
    ended.set()  # nobody waits until it has arrived
    reloader.reload()
    assert len(endpoint.applied) == 1


def test_no_error_of_a_reload_ends_the_endpoint() -> None:
    """What nobody foresaw is told in one line with its kind, whether reading or applying fails."""
    said, config = list[str](), load(CONFIG)

    def broken() -> dict[str, Any]:
        raise RuntimeError("a\nb")

    Reloader(Endpoint(), config, broken, said.append, threading.Event()).reload()
    Reloader(Endpoint(), config, dict, said.append, threading.Event()).reload()
    other = load_config(CONFIG, host=None, port=9000, engine={})
    Reloader(Endpoint(OSError("gone")), config, lambda: other, said.append, threading.Event()).reload()
    assert said == [
        "cutray: kept the old configuration: RuntimeError: a b",
        "cutray: kept the old configuration: KeyError: 'applications'",
        "cutray: the new configuration cannot be used: OSError: gone",
    ]


def test_numbers_in_quotes_are_numbers(tmp_path: Path) -> None:
    """Serve takes them, so a timeout in quotes is compared as what it is."""
    path = tmp_path / "serve.yaml"

    def change(config: dict[str, Any], application: dict[str, Any]) -> None:
        config["http_options"] |= {"request_timeout_s": "60", "port": "9000"}
        application["args"]["jobs"] = {"folder": str(tmp_path / "jobs")}

    write(path, change)
    listen = load(path)["http_options"]
    assert (listen["request_timeout_s"], listen["port"], listen["host"]) == (60, 9000, "127.0.0.1")
    write(path, lambda *parts: [change(*parts), parts[1]["args"]["jobs"].update(upload_timeout_s=51)])
    with pytest.raises(ConfigError, match="request_timeout_s 60"):
        load(path)
