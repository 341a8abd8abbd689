"""`cutray serve` as a process: what the folder, the environment and signals do to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import require_weights

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from pipelines.bench.processes import free_port  # noqa: E402
from tests.endpoint import write_config  # noqa: E402

_PATIENCE_S = 300
CUTRAY = Path(sys.executable).with_name("cutray")


@dataclass
class Program:
    """A running ``cutray serve``."""

    process: subprocess.Popen[bytes]
    url: str
    config: Path
    log: Path

    def told(self) -> str:
        """Return what it has printed."""
        return self.log.read_text()

    def change(self, **user_config: Any) -> None:
        """Write other keys for the Segmenter into its YAML."""
        config = yaml.safe_load(self.config.read_text())
        network = next(entry for entry in config["applications"][0]["deployments"] if entry["name"] == "Segmenter")
        network["user_config"] = user_config
        self.config.write_text(yaml.safe_dump(config))

    def reload(self) -> str:
        """Send SIGHUP and return the line that comes of it; libraries may print others."""
        before = len(self._outcomes())
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self._outcomes()) > before, self)
        return self._outcomes()[-1]

    def _outcomes(self) -> list[str]:
        """Return the lines that tell what came of SIGHUP."""
        lines = self.told().splitlines()
        return [line for line in lines if line.startswith(("cutray: ", "the configuration "))]

    def is_ready(self) -> bool:
        """Return whether it takes photos."""
        with contextlib.suppress(httpx.HTTPError):
            return bool(httpx.get(f"{self.url}/ready", timeout=10).status_code == 200)
        return False


def wait_for(condition: Callable[[], bool], program: Program) -> None:
    """Wait for something while the program runs; nothing is measured."""
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        assert program.process.poll() is None, program.told()
        assert time.monotonic() < until, program.told()
        time.sleep(0.1)


def catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Return whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (mask,) = [line.split()[1] for line in status if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Start it in another project's folder, with a long TMPDIR, and send SIGHUP before it is ready."""
    require_weights("u2netp")
    base = tmp_path_factory.mktemp("serve")
    project = base / "other project"
    project.mkdir()
    for name in ("cutray.py", "pipelines.py", "serve_apps.py", "queue.py", "yaml.py", "numpy.py"):
        (project / name).write_text(f"raise SystemExit('{name} of another project was imported')\n")
    search = base / "search path"
    (search / "serve_apps").mkdir(parents=True)
    (search / "serve_apps" / "__init__.py").write_text("raise SystemExit('serve_apps of the search path')\n")
    scratch = base / ("a_rather_long_scratch_folder_name_" * 3)
    scratch.mkdir()
    config = write_config(base / "serve.yaml", deployments={"Segmenter": {"user_config": {"model": "u2netp"}}})
    port = free_port()
    log = base / "serve.log"
    variables = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(search)}
    variables.pop("RAY_TMPDIR", None)
    with log.open("w") as sink:
        process = subprocess.Popen(
            [CUTRAY, "serve", "--port", str(port), "--config", str(config), "--offline"],
            cwd=project,
            env=variables,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    started = Program(process, f"http://127.0.0.1:{port}", config, log)
    try:
        wait_for(lambda: catches(process, signal.SIGHUP), started)
        assert not started.is_ready()
        process.send_signal(signal.SIGHUP)
        wait_for(started.is_ready, started)
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(_PATIENCE_S)


def test_folder_environment_and_early_signal_do_no_harm(program: Program, photo_files: Path) -> None:
    """Foreign modules are not imported, sockets find a short path, and SIGHUP before readiness ends nothing."""
    photo = (photo_files / "astronaut.jpg").read_bytes()
    answer = httpx.post(f"{program.url}/remove-background", files={"image": photo}, timeout=_PATIENCE_S)
    assert answer.status_code == 200, answer.text
    wait_for(lambda: "the configuration has not changed" in program.told(), program)
    assert "Traceback" not in program.told()
    assert "another project" not in program.told()


def test_only_what_is_new_and_valid_is_read_again(program: Program, tmp_path: Path) -> None:
    """Nothing new, an unknown model, a broken file, a broken model and a good change each get their own line."""
    assert program.reload() == "the configuration has not changed"
    program.change(model="u2nett")
    line = program.reload()
    assert line.startswith("cutray: kept the old configuration")
    assert "u2nett" in line
    good = yaml.safe_dump(yaml.safe_load(program.config.read_text()))
    program.config.write_text("applications: [")
    assert program.reload().startswith("cutray: kept the old configuration")
    program.config.rename(tmp_path / "away.yaml")
    assert program.reload().startswith("cutray: kept the old configuration")
    program.config.write_text(good)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    program.change(model=str(tmp_path / "broken.onnx"))
    assert "kept the old" in program.reload()
    program.change(model="u2netp", batch_wait_s=0.001)
    assert program.reload() == "the configuration was read again: Segmenter"
    ready = httpx.get(f"{program.url}/ready", timeout=_PATIENCE_S).json()
    assert ready == {"status": "ready", "model": "u2netp", "swap_error": None}


def test_end_is_quiet(program: Program) -> None:
    """SIGTERM ends it with 0 and without a traceback."""
    program.process.terminate()
    assert program.process.wait(_PATIENCE_S) == 0
    assert "Traceback" not in program.told()


def test_unknown_model_is_wrong_usage(tmp_path: Path) -> None:
    """A model that nobody knows is refused before Ray starts."""
    config = write_config(tmp_path / "serve.yaml")
    done = subprocess.run(
        [CUTRAY, "serve", "--port", str(free_port()), "--config", str(config), "-m", "u2nett"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "'u2net'" in done.stderr
    assert "Traceback" not in done.stderr
