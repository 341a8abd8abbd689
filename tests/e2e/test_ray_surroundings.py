"""Jobs and the endpoint start Ray wherever they are called: beside modules of the user, on a cluster's machine."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.batches import PATIENCE_S, batch_environment, write_photos
from tests.endpoint import free_port

pytest.importorskip("ray.data")
OURS_AND_THEIRS = ("pipelines", "serve_apps", "cutray", "numpy", "types", "ray", "pyarrow", "logging")


def command(*arguments: object) -> list[str]:
    # The installed program does not look into the current folder either.
    return [sys.executable, "-P", "-m", "cutray", *map(str, arguments)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of the user's own, with photos and modules whose names are also ours or a library's."""
    for name in OURS_AND_THEIRS:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} of the user')\n")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").write_text("raise RuntimeError('package of the user')\n")
    write_photos(tmp_path / "photos", 2)
    return tmp_path


def long_folder(folder: Path) -> str:
    """A temporary folder as job schedulers make them, whose path is too long for sockets."""
    long = folder / "a_rather_long_scratch_folder_name" / "jobdir_1355700_of_the_scheduler"
    long.mkdir(parents=True)
    return str(long)


def test_batch_beside_modules_of_the_users_own(folder: Path) -> None:
    """Workers import our modules, results go where a relative path points, and sockets find a shorter folder."""
    environment = batch_environment() | {"TMPDIR": long_folder(folder)}
    done = subprocess.run(
        command("batch", "photos", "out", "-m", "u2netp", "--address", "local"),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["failed"] == 0
    assert "note: TMPDIR is too long" in done.stderr
    assert len(list((folder / "out").rglob("*.png"))) == 2


def test_serve_beside_modules_of_the_users_own(folder: Path) -> None:
    """The endpoint's processes import our modules too, and it starts below a long temporary folder."""
    port = free_port()
    environment = batch_environment() | {"TMPDIR": long_folder(folder)}
    words = command("serve", "--port", port, "--metrics-port", free_port(), "-m", "u2netp")
    with subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            until = time.monotonic() + PATIENCE_S
            while not _answers(port) and server.poll() is None and time.monotonic() < until:
                time.sleep(1)
            assert _answers(port), server.poll()
        finally:
            server.send_signal(signal.SIGINT)
            told = server.communicate(timeout=PATIENCE_S)[1]
    assert server.returncode == 0, told
    assert "note: TMPDIR is too long" in told


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.parametrize("verb", ["batch", "tune", "train"])
def test_a_cluster_that_has_gone_is_told_at_once(verb: str, folder: Path) -> None:
    """RAY_ADDRESS is joined like --address; where nobody answers, that is wrong usage and not minutes of tries."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    search = {"preset": "smoke", "search": {"optim.lr": {"uniform": [0.0001, 0.01]}}, "trials": 1}
    (folder / "sweep.yaml").write_text(json.dumps(search))
    words = {
        "batch": ["photos", "out", "-m", "u2netp"],
        "tune": ["sweep.yaml", "--save-dir", "runs"],
        "train": ["--preset", "smoke", "--save-dir", "runs"],
    }
    done = subprocess.run(
        command(verb, *words[verb]),
        cwd=folder,
        env=batch_environment() | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=280,  # Ray alone would try for 300 s
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"no Ray cluster at '{address}'" in done.stderr
