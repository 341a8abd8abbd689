"""``cutray doctor --measure``: every engine is timed, the fastest is kept, and auto takes it from then on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cutray.cli import cli
from cutray.commands import measure
from cutray.config import EngineSettings
from cutray.console.run import run
from cutray.engines.hardware import Hardware
from cutray.engines.measured import Conditions, Winner, forget_winners, keep_winner, read_winner
from cutray.engines.select import EngineChoice, choose_engine

ALL = {"openvino": "2026.4.1", "onnxruntime": "1.32.0", "torch": "2.13.0", "onnx": "1.23.2", "MNN": "3.6.1"}
ZEN4 = Hardware(2, "EPYC", "AVX512 with VNNI", avx512_bf16=True, avx512_vnni=True, packages=ALL)
HERE = Conditions(ZEN4, 2, "a" * 64)
WINNER = Winner("mnn", "fp32", "2026-01-31")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (HERE, WINNER),
        (replace(HERE, threads=1), None),
        (replace(HERE, sha256="b" * 64), None),
        (replace(HERE, hardware=replace(ZEN4, cpu_name="Xeon")), None),
        (replace(HERE, hardware=replace(ZEN4, avx512_vnni=False)), None),
        (replace(HERE, hardware=replace(ZEN4, packages=ALL | {"MNN": "3.7.0"})), None),
    ],
)
def test_holds_under_the_same_conditions_alone(tmp_path: Path, conditions: Conditions, expected: Winner | None) -> None:
    """Another processor, feature, version, model or number of threads has not been measured."""
    keep_winner(WINNER, HERE, tmp_path)
    assert read_winner(conditions, tmp_path) == expected


def test_is_forgotten(tmp_path: Path) -> None:
    """Afterwards nothing is known, and forgetting again finds nothing."""
    keep_winner(WINNER, HERE, tmp_path)
    assert (forget_winners(tmp_path), forget_winners(tmp_path)) == (1, 0)
    assert read_winner(HERE, tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"engine": "mnn", "precision": 1, "date": ""}', b"\xff"])
def test_damaged_file_is_ignored_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """The table decides, as if nothing had been measured."""
    keep_winner(WINNER, HERE, tmp_path)
    HERE.path(tmp_path).write_bytes(content)
    assert read_winner(HERE, tmp_path) is None
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("asked", "hardware", "winner", "expected"),
    [
        ({}, ZEN4, WINNER, ("mnn", "fp32")),
        ({}, ZEN4, Winner("openvino", "int8", ""), ("openvino", "int8")),
        ({}, ZEN4, None, ("openvino", "int8")),
        ({"precision": "fp32"}, ZEN4, WINNER, ("mnn", "fp32")),
        ({"precision": "bf16"}, ZEN4, WINNER, ("openvino", "bf16")),
        ({"engine": "onnxruntime"}, ZEN4, WINNER, ("onnxruntime", "fp32")),
        ({}, ZEN4, Winner("pytorch", "bf16", ""), ("openvino", "int8")),  # not a format that this model bears
        ({}, replace(ZEN4, packages={"openvino": "2026.4.1"}), WINNER, ("openvino", "int8")),
        ({}, ZEN4, Winner("unheard of", "fp32", ""), ("openvino", "int8")),
        (
            {},
            replace(ZEN4, cuda_gpus=("H100",), packages=ALL | {"onnxruntime-gpu": "1"}),
            WINNER,
            ("onnxruntime", "fp32"),
        ),
    ],
)
def test_auto_takes_what_was_measured(
    asked: dict[str, str], hardware: Hardware, winner: Winner | None, expected: tuple[str, str]
) -> None:
    """What is asked for comes first, then a GPU, then what was measured and can still be had, then the table."""
    choice = choose_engine(EngineSettings.model_validate(asked), ".onnx", hardware, ("int8",), winner)
    assert (choice.engine, choice.precision) == expected


def test_engine_that_computes_something_else_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fastest one loses if its answers differ, or if it did not run."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    settings = EngineSettings(model="u2netp-distilled", offline=True)

    def timing(engine: str, seconds: float, problem: str) -> measure.Timing:
        return measure.Timing(EngineChoice(engine, "cpu", "fp32", 2, ""), seconds, 0.0, problem)

    timings = [timing("mnn", 0.1, "differs"), timing("openvino", 0.3, ""), timing("onnxruntime", 0.2, "")]
    assert measure.keep_fastest(timings, settings).choice.engine == "onnxruntime"
    (kept,) = (tmp_path / "measured").iterdir()
    assert json.loads(kept.read_text())["engine"] == "onnxruntime"


def test_doctor_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every engine has a row; the next run tells where its choice is from, until that is forgotten."""
    onnx = pytest.importorskip("onnx")
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "cache"))
    helper = onnx.helper
    shapes = [helper.make_tensor_value_info(name, 1, [1, n, 320, 320]) for name, n in (("x", 3), ("y", 1))]
    nodes = [helper.make_node("Conv", ["x", "w"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["y"])]
    weight = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "small", shapes[:1], shapes[1:], [weight])
    model = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), model)
    assert run(cli, ["doctor", "--measure", "-m", str(model)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("openvino", "onnxruntime", "kept: "))
    assert run(cli, ["doctor", "-m", str(model)]) == 0
    assert "the fastest here, measured on" in capsys.readouterr().out
    assert run(cli, ["doctor", "--forget", "-m", str(model)]) == 0
    shown = capsys.readouterr()
    assert "measured on" not in shown.out
    assert "forgotten: 1" in shown.err
