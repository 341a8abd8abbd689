"""A remover goes to other processes as its settings: pickled, copied, in pools, after a fork, and to Ray."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from cutray import BackgroundRemover
from cutray import remover as remover_module
from cutray.config.paths import absolute_model
from cutray.engines.base import EngineInfo
from cutray.errors import EngineError
from tests.conftest import require_weights
from tests.pictures import differ

# Measures nothing: it only ends a test whose processes wait for each other for ever.
_DEADLINE_S = 600


@pytest.fixture
def paths(photo_files: Path) -> list[Path]:
    """Return two photos, one with fur, which the edge refiner corrects."""
    return [photo_files / "chelsea.jpg", photo_files / "coffee.jpg"]


def test_it_pickles_small_and_loads_where_it_arrives(remover: BackgroundRemover, paths: list[Path]) -> None:
    """A few hundred bytes of settings, no network; the same pixels afterwards."""
    data = pickle.dumps(remover)
    assert len(data) < 10_000
    arrived = pickle.loads(data)
    assert arrived.settings == remover.settings and arrived._segmenter is None
    assert arrived.remove_background(paths[1]).data == remover.remove_background(paths[1]).data


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_it_copies(remover: BackgroundRemover, copied: object) -> None:
    """Copies have the settings, and a network once they need one."""
    again = copied(remover)  # type: ignore[operator]
    assert again is not remover and again.settings == remover.settings
    assert again.segmenter.info == remover.segmenter.info


def test_a_subclass_travels_with_its_attributes(remover: BackgroundRemover) -> None:
    """What is added to it is kept, what cannot travel is left behind."""
    one = Labelled.from_settings(remover.settings)
    one.label = "shoes"
    again = pickle.loads(pickle.dumps(one))
    assert isinstance(again, Labelled) and again.label == "shoes"


class Labelled(BackgroundRemover):
    """A remover with an attribute of its own."""

    label = ""


def test_paths_among_its_settings_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own model and a background picture are found from any folder, where the remover arrives."""
    weights = require_weights("u2netp")
    (tmp_path / "own.onnx").symlink_to(weights)
    (tmp_path / "beach.png").write_bytes(b"no picture yet")
    monkeypatch.chdir(tmp_path)
    remover = BackgroundRemover("own.onnx", background="beach.png", offline=True)
    monkeypatch.chdir("/")
    settings = pickle.loads(pickle.dumps(remover)).settings
    assert settings.model == str(tmp_path / "own.onnx")
    assert settings.background == str(tmp_path / "beach.png")


def test_paths_of_an_ensemble_are_absolute_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names stay names; a file whose own name has a plus is one file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b.onnx").touch()
    model = absolute_model("u2net+own.onnx+models:/shoes@champion")
    assert model == f"u2net+{tmp_path / 'own.onnx'}+models:/shoes@champion"
    assert absolute_model("a+b.onnx") == str(tmp_path / "a+b.onnx")


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_pools_of_processes_use_it(remover: BackgroundRemover, paths: list[Path], method: str) -> None:
    """Pool.map with the bound method: results and reports come back, with the pixels of this process."""
    expected = [remover.remove_background(path) for path in paths]
    with multiprocessing.get_context(method).Pool(1) as pool:
        results = pool.map_async(remover.remove_background, paths).get(_DEADLINE_S)
    for result, one in zip(results, expected, strict=True):
        assert not differ(result, one)
        assert result.report.confidence == pytest.approx(one.report.confidence, abs=1e-3)


def test_executors_use_it(remover: BackgroundRemover, paths: list[Path]) -> None:
    """As joblib does: a pool that is reused, in processes that start from scratch."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(remover.remove_background, paths[1]).result(_DEADLINE_S)
    assert result.data == remover.remove_background(paths[1]).data


_FORKS = """
import os, sys, threading
import cutray
import numpy as np
from cutray import BackgroundRemover
photo, engine, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
remover = BackgroundRemover("u2netp", engine=engine, threads=threads, offline=True)
expected = remover.remove_background(photo)
shared = cutray.remove(photo, model="u2netp")
from tests.pictures import differ
def same(one, two):
    return not differ(one, two)
stop = threading.Event()
def busy():
    while not stop.is_set():
        remover.remove_background(photo)
worker = threading.Thread(target=busy, daemon=True)
if "busy" in sys.argv:
    worker.start()
child = os.fork()
if child == 0:  # it ends like any program, with all destructors
    equal = same(remover.remove_background(photo), expected) and same(cutray.remove(photo, model="u2netp"), shared)
    sys.exit(7 if equal else 8)
stop.set()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "mnn", "pytorch"])
@pytest.mark.parametrize("busy", [False, True])
def test_a_fork_loads_its_own_network(paths: list[Path], engine: str, busy: bool) -> None:
    """A forked process gives the same pixels and ends, also when a thread was at work at the moment of the fork."""
    pytest.importorskip({"pytorch": "torch", "mnn": "MNN"}.get(engine, engine))
    require_weights("u2netp")
    words = [sys.executable, "-c", _FORKS, str(paths[1]), engine, "2", *(["busy"] if busy else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.stdout.strip() == "7", done.stdout + done.stderr


def test_a_fork_without_the_gpu_says_what_to_do(remover: BackgroundRemover, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA does not survive a fork; the error names the way that works, instead of a crash or a wait."""

    class OnGpu:
        device, name = "cuda", "onnxruntime"

    class Inherited:
        engine = OnGpu()

    monkeypatch.setattr(remover_module, "_inherited", [Inherited()])
    with pytest.raises(EngineError, match="spawn"):
        _ = pickle.loads(pickle.dumps(remover)).segmenter
    on_cpu = BackgroundRemover("u2netp", device="cpu", offline=True)
    assert on_cpu.segmenter.info.engine.device == "cpu"


def test_threads_that_arrive_together_load_it_once(remover: BackgroundRemover, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads with one remover that has just arrived."""
    loads = []
    load = remover_module._load_network
    monkeypatch.setattr(remover_module, "_load_network", lambda *given: loads.append(1) or load(*given))
    arrived = pickle.loads(pickle.dumps(remover))
    gate = threading.Barrier(8)

    def ask(_: int) -> EngineInfo:
        gate.wait(_DEADLINE_S)
        return arrived.segmenter.info.engine

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(loads) == 1
