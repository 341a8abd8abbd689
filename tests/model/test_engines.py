"""All engines against each other, with the published weights."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cutray.config import EngineSettings
from cutray.engines.base import Engine
from cutray.engines.create import create_engine
from cutray.engines.hardware import inspect_hardware
from cutray.engines.onnx_graph import make_batch_dynamic
from cutray.engines.select import EngineChoice, choose_engine
from cutray.errors import WeightsUnavailableError
from cutray.models.weights import Weights, resolve
from cutray.segmenter import Segmenter
from tests.conftest import require_weights


@pytest.fixture(scope="module", params=["u2net", "u2netp"])
def weights(request: pytest.FixtureRequest) -> Weights:
    """Return published weights, if this machine has them."""
    try:
        return resolve(request.param, offline=True)
    except WeightsUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    """Return two pictures, prepared for the network: a bright disc on a slope of colour, and the slope alone."""
    y, x = np.mgrid[0:320, 0:320].astype(np.float32) / 319
    slope = np.stack([0.2 + 0.3 * x, 0.3 + 0.2 * y, 0.5 - 0.2 * x])
    disc = ((x - 0.5) ** 2 + (y - 0.45) ** 2 < 0.06)[None]
    pictures = np.stack([np.where(disc, np.float32([0.95, 0.8, 0.2])[:, None, None], slope), slope])
    pictures /= pictures.max(axis=(1, 2, 3), keepdims=True)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((pictures - mean[:, None, None]) / std[:, None, None]).astype(np.float32)


def _engine(weights: Weights, engine: str, precision: str) -> Engine:
    """Build one engine on the CPU."""
    pytest.importorskip({"pytorch": "torch", "mnn": "MNN"}.get(engine, engine))

    def load_module() -> object:
        from cutray.models.u2net import load_u2net

        return load_u2net(weights.path)

    choice = EngineChoice(engine, "cpu", precision, 2, "test")
    return create_engine(choice, weights.path, weights.spec.input_size_px, load_module)


@pytest.fixture(scope="module")
def reference(weights: Weights, batch: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime makes of the published file, unchanged."""
    return _engine(weights, "onnxruntime", "fp32").infer(batch)


def test_subject_is_found(reference: np.ndarray, batch: np.ndarray) -> None:
    """The disc is subject, and its surroundings are not."""
    assert reference[0, 144, 160] > 0.9
    assert reference[0, :20].max() < 0.1


@pytest.mark.parametrize("engine", ["openvino", "mnn", "pytorch"])
def test_engines_agree_in_fp32(weights: Weights, batch: np.ndarray, reference: np.ndarray, engine: str) -> None:
    """In fp32 only rounding makes a difference, and a picture's result does not depend on its neighbours."""
    built = _engine(weights, engine, "fp32")
    probs = built.infer(batch)
    # Winograd's algorithm, which MNN convolves by, rounds a single doubtful pixel a little more.
    assert np.abs(probs - reference).max() <= (3e-4 if engine == "mnn" else 1e-4)
    assert np.abs(probs - reference).mean() <= 1e-6
    assert np.array_equal(built.infer(batch[1:]), probs[1:])


def test_bf16_changes_little(weights: Weights, batch: np.ndarray, reference: np.ndarray) -> None:
    """In bf16 probabilities differ by 0.005 on average at most, and the mask of the subject hardly at all."""
    if not inspect_hardware().computes_in_bf16:
        pytest.skip("this processor does not compute in bf16")
    engine = _engine(weights, "openvino", "bf16")
    assert engine.precision == "bf16"
    probs = engine.infer(batch)[0]
    assert np.abs(probs - reference[0]).mean() <= 0.005
    assert ((probs > 0.5) != (reference[0] > 0.5)).mean() <= 0.002


def test_freed_batch(weights: Weights, batch: np.ndarray, reference: np.ndarray) -> None:
    """The file changed for GPUs takes several pictures at once, has one output, and computes the same."""
    onnxruntime = pytest.importorskip("onnxruntime")
    graph, name = make_batch_dynamic(weights.path, 320)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {name: batch})
    assert len(outputs) == 1
    assert np.abs(outputs[0][:, 0] - reference).max() <= 1e-4


def test_other_side(weights: Weights, batch: np.ndarray) -> None:
    """The ONNX engines run the published file at another side than the one it fixes, and agree."""
    half = np.ascontiguousarray(batch[:1, :, ::2, ::2])
    choices = [EngineChoice(engine, "cpu", "fp32", 2, "test") for engine in ("openvino", "onnxruntime", "mnn")]
    for package in ("openvino", "onnxruntime", "MNN"):
        pytest.importorskip(package)
    first, *others = (create_engine(choice, Path(weights.path), 160).infer(half) for choice in choices)
    assert all(np.abs(first - other).max() <= 3e-4 for other in others)


def test_streams_change_nothing(weights: Weights, batch: np.ndarray) -> None:
    """As chosen for this machine: pictures run at a time, by more callers than streams, give what one alone gives."""
    pytest.importorskip("openvino")
    settings = EngineSettings(threads=2, streams=2, engine="openvino")
    several = Segmenter.of(weights, settings)
    assert several.choice.streams == 2
    alone = Segmenter.of(weights, settings.model_copy(update={"streams": 1})).engine.infer(batch)
    with ThreadPoolExecutor(5) as pool:
        for found in pool.map(several.engine.infer, [batch] * 12):
            assert np.array_equal(found, alone)


def test_chosen_engine_runs(weights: Weights, batch: np.ndarray, reference: np.ndarray) -> None:
    """What is chosen for this machine runs here, and finds the same subject."""
    choice = choose_engine(EngineSettings(), weights.path.suffix, inspect_hardware())
    probs = create_engine(choice, weights.path, 320).infer(batch)[0]
    assert ((probs > 0.5) != (reference[0] > 0.5)).mean() <= 0.005


# Three threads whose first passes begin together, in a process that has made none; switching often brings them closer.
_FIRST_PASSES = """
import faulthandler, sys, threading
import numpy as np
from cutray.config import EngineSettings
from cutray.segmenter import Segmenter

faulthandler.dump_traceback_later(90, exit=True)
engine = Segmenter.load(EngineSettings(model="u2netp", engine="openvino", threads=2, streams=2, offline=True)).engine
sys.setswitchinterval(1e-6)
together = threading.Barrier(3)

def look():
    together.wait()
    engine.infer(np.zeros((1, 3, 320, 320), np.float32))

threads = [threading.Thread(target=look) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""


def test_first_passes_of_several_threads_do_not_wait_for_each_other() -> None:
    """OpenVINO's binding, prepared by two threads at once, would stand still for ever."""
    require_weights("u2netp")
    run = subprocess.run([sys.executable, "-c", _FIRST_PASSES], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "done", run.stderr
