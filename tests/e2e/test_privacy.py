"""No verb calls home: nothing is asked of the network, and no library leaves the numbers by which it counts users."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests.endpoint import running, write_config
from tests.network_watch import questions, run_watched, watched_environment

MODEL = "u2netp-distilled"
CLI = ["-m", "cutray.cli"]
# Every photo's way uses one of the engines; the scripts use the library as other programs do.
LIBRARY = f"from cutray import BackgroundRemover as B; B({MODEL!r}, offline=True).remove_background('photo.png')"
TRACKING = """
from cutray.models import registry
store = registry.client("sqlite:///runs.db")
run = store.create_run(registry.open_experiment(store, "sqlite:///runs.db", "shoes"))
store.log_metric(run.info.run_id, "iou", 0.9)
store.set_terminated(run.info.run_id)
"""
VERBS = {
    "remove with openvino": [*CLI, "remove", "photo.png", "-m", MODEL, "--offline", "--engine", "openvino"],
    "remove with onnxruntime": [*CLI, "remove", "photo.png", "-m", MODEL, "--offline", "--engine", "onnxruntime"],
    "remove with mnn": [*CLI, "remove", "photo.png", "-m", MODEL, "--offline", "--engine", "mnn"],
    "remove with pytorch": [*CLI, "remove", "photo.png", "-m", MODEL, "--offline", "--engine", "pytorch"],
    "models list": [*CLI, "models", "list"],
    "models show": [*CLI, "models", "show", MODEL],
    "models verify": [*CLI, "models", "verify"],
    "models pull": [*CLI, "models", "pull", MODEL],
    "doctor": [*CLI, "doctor"],
    "library": ["-c", LIBRARY],
    "tracking": ["-c", TRACKING],
    "batch": [*CLI, "batch", ".", "../out", "-m", MODEL],
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with a photo in its ``work``."""
    watched_environment(tmp_path)
    photo = Image.new("RGB", (160, 120), "steelblue")
    photo.paste("orange", (50, 30, 110, 90))
    photo.save(tmp_path / "work" / "photo.png")
    return tmp_path


def _left_in_home(place: Path) -> set[str]:
    """Return what lies in the home, but for Cutray's own cache and the token that keeps others off its Ray."""
    files = {str(path.relative_to(place / "home")) for path in (place / "home").rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(".cache/cutray/")} - {".ray/auth_token"}


@pytest.mark.parametrize("verb", VERBS)
def test_verb_asks_nothing_of_the_network(verb: str, place: Path) -> None:
    """Names, addresses and left-overs in the home: none, in the program and all its children."""
    done, asked = run_watched(VERBS[verb], place)
    assert done.returncode == 0, done.stderr
    assert asked == []
    assert _left_in_home(place) == set()


def test_endpoint_asks_nothing_of_the_network(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts, cuts a photo out and ends without a question."""
    environment = watched_environment(place)
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with running(write_config(place / "serve.yaml"), "-m", MODEL) as (address, _):
        request = urllib.request.Request(f"{address}/remove-background", (place / "work" / "photo.png").read_bytes())
        request.add_header("Content-Type", "image/png")
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert answer.status == 200
    assert questions(place) == []
    assert _left_in_home(place) == set()


def test_watch_sees_a_question(place: Path) -> None:
    """The hook would tell, from a child too."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {0!r}])"
    script = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    assert run_watched(["-c", child.format(script)], place)[1] == ["socket.getaddrinfo example.invalid -c"]
