"""Registered models work in every verb, with the registry of the current folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenes import write_pairs
from tests.training import environment

pytest.importorskip("mlflow")
pytest.importorskip("torch")

MODEL = "u2netp-distilled"  # part of the package


def _cutray(folder: Path, *words: object, code: int = 0) -> tuple[str, str]:
    """Run a verb in a folder; return what it wrote to standard output and to standard error."""
    variables = {name: value for name, value in environment().items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "cutray.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=900, env=variables)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_pairs(folder / "held-out", 3, side_px=128)
    out, told = _cutray(
        folder, "register", MODEL, "--name", "shoes", "--data", "held-out", "--rival", MODEL, "--min-iou", "0"
    )
    summary = json.loads(out.splitlines()[-1])
    assert summary["champion"], told
    assert f"against {MODEL}" in summary["reason"]
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("remove", "held-out/images/000.png", "-o", "out.png", "--min-confidence", "0"),
        ("evaluate", "held-out", "--quality", "fast"),
        ("export", "-o", "copy.onnx", "--count", "4"),
    ],
)
def test_registered_models_work_by_their_alias(folder: Path, words: tuple[str, ...]) -> None:
    """Verbs take a champion from runs/mlflow.db, and leave no store of their own in the current folder."""
    verb, *rest = words
    model = ["models:/shoes@champion"] if verb == "export" else ["-m", "models:/shoes@champion"]
    _cutray(folder, verb, *model, *rest)
    assert (folder / "runs" / "mlflow.db").is_file()
    assert not (folder / "mlflow.db").exists()
    assert not (folder / "mlruns").exists()


def test_a_first_model_that_is_worse_is_no_champion(folder: Path, tmp_path: Path) -> None:
    """Without a champion the rival is what the run started from; --force gives the alias all the same."""
    import torch
    from safetensors.torch import save_file

    from cutray.models.u2net import U2Net

    torch.manual_seed(0)
    save_file(U2Net("u2netp").state_dict(), tmp_path / "best.safetensors")
    (tmp_path / "settings.json").write_text(json.dumps({"init": MODEL}))
    words = ("register", tmp_path / "best.safetensors", "--name", "hats", "--data", "held-out", "--min-iou", "0")
    out, told = _cutray(folder, *words, code=1)
    assert f"against {MODEL}" in out
    assert "--force" in told
    _, told = _cutray(folder, "evaluate", "held-out", "-m", "models:/hats@champion", code=2)
    assert "has no 'models:/hats@champion'" in told
    out, _ = _cutray(folder, *words, "--force")
    assert json.loads(out.splitlines()[-1])["reason"].endswith("; forced")
    # It has a champion now; a rival that is named goes before it.
    out, _ = _cutray(folder, *words, "--rival", "models:/shoes@champion", code=1)
    assert "against models:/shoes@champion" in out
    assert (folder / "runs" / "mlflow.db").is_file()


def test_no_registry_is_made_by_looking(tmp_path: Path) -> None:
    """Where there is no registry, that is said, and none is made."""
    _, told = _cutray(tmp_path, "evaluate", tmp_path, "-m", "models:/shoes@champion", code=2)
    assert "there is no registry at sqlite:///" in told
    assert not list(tmp_path.iterdir())
