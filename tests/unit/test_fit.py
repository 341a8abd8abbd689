"""Training from Python, in this process: one's own data set, callbacks, going on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.numpy import load_file  # noqa: E402

from cutray.config import TrainSettings, parse_settings  # noqa: E402
from cutray.data.own_items import own_pair  # noqa: E402
from cutray.data.synthetic import draw_scene  # noqa: E402
from cutray.errors import ConfigError, DatasetError, TrainingError  # noqa: E402
from cutray.evaluation.uncertainty import bootstrap_interval  # noqa: E402
from cutray.training import fit  # noqa: E402
from cutray.training.local import _split  # noqa: E402
from tests.training import environment  # noqa: E402

ROOT = Path(__file__).parents[2]
# Small enough for a second: the network itself cannot be smaller.
TINY: dict[str, Any] = {
    "architecture": "u2netp",
    "init": "",
    "precision": "fp32",
    "threads_per_worker": 1,
    "side_px": 32,
    "batch_size": 2,
    "epochs": 2,
}


class Scenes:
    """A data set of the user's own: it has a length and items."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        scene = draw_scene("ordinary", np.random.default_rng(index), 72, 64, family="train")
        return {"image": scene.image, "alpha": scene.alpha}


def test_an_own_data_set_is_learned_from(tmp_path: Path) -> None:
    """The folder holds weights and scores, callbacks hear of each epoch, and more epochs go on where it ended."""
    heard: list[dict[str, Any]] = []
    options = {**TINY, "save_dir": str(tmp_path), "name": "own", "data": {"validation_share": 0.25}}
    result = fit(Scenes(), callbacks=[heard.append], **options)
    assert result.best == tmp_path / "own" / "best.safetensors"
    assert result.best.is_file()
    assert [entry["epoch"] for entry in json.loads((result.run_dir / "history.json").read_text())] == [0, 1]
    assert result.state.total_steps == 6
    assert heard[-1]["last"]["iou"] == result.state.history[-1]["iou"]
    assert heard[-1]["progress"] > 0.5
    _check_card(result)
    longer = fit(Scenes(), **{**options, "epochs": 3})
    assert longer.state.total_steps == 9
    assert longer.state.history[:2] == result.state.history


def test_callbacks_hear_of_figures_alone(tmp_path: Path) -> None:
    """A run that starts from weights scores them first; `latest["loss"]` is in every message all the same."""
    options = {**TINY, "epochs": 1, "save_dir": str(tmp_path), "data": {"validation_share": 0.25}}
    first = fit(Scenes(), name="first", **options)
    losses: list[float] = []
    options |= {"init": str(first.best), "name": "second"}
    fit(Scenes(), callbacks=[lambda latest: losses.append(latest["loss"])], **options)
    assert losses and all(np.isfinite(losses))


def _check_card(result: Any) -> None:
    """The card has architecture, data, what differs from the defaults, and scores with interval and number."""
    scores = json.loads((result.run_dir / "validation.json").read_text())
    best = result.state.history[result.state.best_epoch]
    assert sum(scores["iou"]) / len(scores["iou"]) == pytest.approx(best["iou"])
    card = (result.run_dir / "best.card.md").read_text()
    assert "| architecture | u2netp |" in card
    assert "trained from random weights" in card
    assert "| samples of an epoch | 6 |" in card
    assert "| optim.batch_size | 2 | 12 |" in card
    low, high = bootstrap_interval(scores["iou"])
    assert f"| iou | {best['iou']:.4f} | {low:.4f} to {high:.4f} | {len(scores['iou'])} |" in card
    assert "## Intended use" in card and "## Limits" in card


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    """A setting that there is not, a batch that is too large, and an alpha of another size."""
    with pytest.raises(ConfigError, match="did you mean 'architecture'"):
        fit(Scenes(), architectur="u2netp", save_dir=str(tmp_path))
    with pytest.raises(TrainingError, match="at least one batch of 64"):
        fit(Scenes(), **{**TINY, "batch_size": 64, "save_dir": str(tmp_path)})
    with pytest.raises(ConfigError, match="keep_start"):
        fit(
            Scenes(),
            **{**TINY, "save_dir": str(tmp_path), "optim": {"keep_start": 0.5}, "data": {"validation_share": 0.25}},
        )
    with pytest.raises(TrainingError, match="a folder and a data set"):
        fit(Scenes(), tmp_path, **{**TINY, "save_dir": str(tmp_path)})
    with pytest.raises(DatasetError, match="item 3"):
        own_pair((np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8)), "item 3 of the data set")
    with pytest.raises(DatasetError, match="float in"):
        own_pair((np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 200.0)), "item 0")


def test_alphas_of_all_kinds_are_read() -> None:
    """Bytes, booleans and floats mean the same."""
    image = np.zeros((2, 2, 3), np.uint8)
    kinds = (
        np.array([[0, 255], [255, 0]], np.uint8),
        np.array([[False, True], [True, False]]),
        np.float64([[0, 1], [1, 0]]),
    )
    for alpha in kinds:
        assert own_pair((image, alpha), "it")[1].tolist() == [[0, 1], [1, 0]]
        assert own_pair({"image": image, "alpha": alpha[..., None]}, "it")[1].tolist() == [[0, 1], [1, 0]]


def test_neither_ray_nor_mlflow_is_needed(tmp_path: Path) -> None:
    """Drawn scenes are learned from in a process in which both cannot be imported."""
    script = "import sys\nsys.modules.update(dict.fromkeys(('ray', 'mlflow', 'openvino', 'isal', 'optuna')))\n"
    script += "from cutray.config import TrainSettings, parse_settings\nfrom cutray.training.local import fit_here\n"
    settings = {
        "save_dir": str(tmp_path),
        "name": "bare",
        "tracking_uri": "none",
        "precision": "fp32",
        "threads_per_worker": 1,
        "data": {"side_px": 32, "scenes": 4, "validation_scenes": 2},
        "optim": {"batch_size": 2, "epochs": 1},
    }
    script += f"print(fit_here(parse_settings(TrainSettings, {settings!r})).state.total_steps)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(OMP_NUM_THREADS="1"),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"


def test_a_profile_says_what_the_steps_wait_for(tmp_path: Path) -> None:
    """A trace and a page with waiting, the rate against the peak, and kernels; several sizes and a frozen part, too."""
    options = {**TINY, "batch_size": 2, "epochs": 2, "save_dir": str(tmp_path), "name": "seen", "freeze": "encoder"}
    sizes = {"scales": [1.0, 2.0], "cache": "ram"}
    result = fit(Scenes(), Scenes(), profile=str(tmp_path / "profile"), **{**options, "data": sizes})
    page = (tmp_path / "profile" / "profile.md").read_text()
    assert "| waiting for data |" in page
    assert "% of a product of matrices" in page
    assert "aten::" in page
    assert json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    steps = sorted(result.run_dir.glob("checkpoint_[0-9]*"))
    first, last = (load_file(folder / "weights.safetensors") for folder in (steps[0], steps[-1]))
    moved = {name.split(".")[0] for name in first if not np.array_equal(first[name], last[name])}
    assert "stage1d" in moved
    assert not moved & {f"stage{level}" for level in range(1, 7)}


def test_a_callback_ends_a_run_which_then_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """What a callback raises is raised by the run; called again, it ends with the weights of an undisturbed one."""
    options = {**TINY, "save_dir": str(tmp_path), "checkpoint_every_steps": 1, "seed": 2}
    undisturbed = fit(Scenes(), Scenes(), name="whole", **options)

    def stop(latest: dict[str, Any]) -> None:
        if latest.get("last"):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit(Scenes(), Scenes(), name="cut", callbacks=[stop], **options)
    again = fit(Scenes(), Scenes(), name="cut", **options)
    for last in (
        Path("best.safetensors"),
        max(undisturbed.run_dir.glob("checkpoint_*")).relative_to(undisturbed.run_dir),
    ):
        file = last / "weights.safetensors" if last.suffix == "" else last
        one, two = (load_file(result.run_dir / file) for result in (undisturbed, again))
        assert max(float(np.abs(one[name] - two[name]).max()) for name in one) < 1e-5


def test_what_is_held_out_lends_no_background(tmp_path: Path) -> None:
    """Samples to learn from take the background of one another, never that of a photo to validate on."""
    settings = parse_settings(TrainSettings, {"data": {"validation_share": 0.25}, "optim": {"batch_size": 2}})
    chosen, held = _split(settings, Scenes(), None)
    places = [{item["other_item"][1] for item in part} for part in (chosen, held)]
    assert places == [{item["item"][1] for item in part} for part in (chosen, held)]
    assert not places[0] & places[1]
