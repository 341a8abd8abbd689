"""Search spaces: what they may say, and what is refused before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutray.config import SweepSettings, parse_settings
from cutray.errors import ConfigError
from pipelines.run_settings import read_yaml
from pipelines.sweep.shipped import find_space, list_spaces
from pipelines.sweep.space import SearchSpace
from pipelines.tune import _begun, _settings

optuna = pytest.importorskip("optuna")
FILES = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))


def space(search: dict[str, Any], **values: Any) -> SearchSpace:
    return SearchSpace(parse_settings(SweepSettings, {"search": search, **values}))


def asked(search: dict[str, Any], **fixed: Any) -> list[str]:
    """Return what a space asks Optuna for, when some answers are fixed."""
    study = optuna.create_study()
    study.enqueue_trial(fixed)
    trial = study.ask()
    space(search)(trial)
    return list(trial.params)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_files_of_the_project_are_sound(path: Path) -> None:
    """Every file is read, names settings that exist, and tries the settings as they are first."""
    sweep = parse_settings(SweepSettings, read_yaml(path))
    first = SearchSpace(sweep).defaults()
    assert first is not None
    assert set(first) <= set(sweep.search)


def test_shipped_spaces_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is a shipped space wherever one stands; a file of that name comes first; else all are named."""
    monkeypatch.chdir(tmp_path)
    assert list_spaces() == {path.stem: path for path in FILES}
    assert find_space(Path("smoke")).name == "smoke.yaml"
    with pytest.raises(ConfigError, match="cutray tune smoke"):
        find_space(Path("tune_configs/smoke.yaml"))
    Path("smoke").write_text("search: {}")
    assert find_space(Path("smoke")) == Path("smoke")


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"optim.lrr": {"uniform": [0.1, 0.2]}}, "unknown setting 'optim.lrr', did you mean 'lr'"),
        ({"optm.lr": {"uniform": [0.1, 0.2]}}, "did you mean 'optim'"),
        ({"optim.lr": {"uniform": [0.2, 0.1]}}, "not a lower and a higher number"),
        ({"optim.lr": {"loguniform": [0, 0.1]}}, "number above 0"),
        ({"optim.lr": {"loguniform": [0.1, 2.0]}}, "less than or equal to 1"),
        ({"optim.lr": {"normal": [0, 1]}}, "normal says how it varies"),
        ({"optim.lr": {}}, "nothing says how it varies"),
        ({"optim.lr": {"uniform": [0.1, 0.2], "choice": [1]}}, "uniform, choice says how"),
        ({"architecture": {"choice": ["u2net", "resnet"]}}, "resnet"),
        ({"architecture": {"choice": "u2net"}}, "no list"),
        ({"optim.lr": {"uniform": [0.1, 0.2], "when": {"architecture": "u2net"}}}, "which does not vary"),
        ({"optim.epochs": {"int": ["a", 3]}}, "not a lower and a higher number"),
        ({"optim.lr": {"uniform": [0.1, 0.2], "when": "architecture"}}, "no table"),
    ],
)
def test_what_cannot_be_searched_is_refused(search: dict[str, Any], message: str) -> None:
    """Unknown paths, empty or impossible ranges and loose conditions are errors that name the path."""
    with pytest.raises(ConfigError, match=message):
        space(search)


def test_all_problems_are_told_at_once() -> None:
    """Two mistakes are one message."""
    with pytest.raises(ConfigError, match=r"optim\.lrr.*loss\.bcee"):
        space({"optim.lrr": {"uniform": [0, 1]}, "loss.bcee": {"uniform": [0, 1]}})


def test_numbers_that_yaml_takes_for_words_are_numbers() -> None:
    """1e-4 without a point is a word in YAML; it is meant as a number."""
    (dimension,) = space({"optim.lr": {"loguniform": ["1e-4", "1e-2"]}}).dimensions
    assert dimension.values == (1e-4, 1e-2)


def test_a_condition_decides_what_is_asked() -> None:
    """A dimension is left alone where its condition does not hold."""
    search = {
        "augment.warp": {"choice": [0.0, 0.5]},
        "augment.perspective": {"uniform": [0, 0.2], "when": {"augment.warp": 0.5}},
        "optim.lr": {"loguniform": [1e-4, 1e-2]},
    }
    assert asked(search, **{"augment.warp": 0.0}) == ["augment.warp", "optim.lr"]
    assert asked(search, **{"augment.warp": 0.5}) == ["augment.warp", "augment.perspective", "optim.lr"]


def test_settings_that_are_no_table_are_refused(tmp_path: Path) -> None:
    """A list where names and values belong is wrong usage; an empty condition is none."""
    file = tmp_path / "sweep.yaml"
    file.write_text("search: {optim.lr: {uniform: [0.1, 0.2], when: }}\nsettings: [1]\n")
    with pytest.raises(ConfigError, match=r"settings = \[1\] in .*sweep.yaml"):
        _settings(file, {}, ())
    file.write_text(file.read_text().replace("[1]", ""))
    assert SearchSpace(_settings(file, {}, ("optim.epochs=3",))).dimensions[0].when == {}


@pytest.mark.parametrize("where", [".", "../shoes", "../hats/../shoes"])
def test_a_search_goes_on_from_within_its_folder(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its folder is called, its name and the folder above it are those of the search."""
    for name in ("shoes", "hats"):
        (tmp_path / name).mkdir()
    sweep = parse_settings(SweepSettings, {"search": {"optim.lr": {"uniform": [0.1, 0.2]}}, "name": "before"})
    (tmp_path / "shoes" / "sweep.json").write_text(json.dumps({"sweep": sweep.model_dump()}))
    monkeypatch.chdir(tmp_path / "shoes")
    begun = _begun(Path(where))
    assert (begun.save_dir, begun.name) == (str(tmp_path), "shoes")


def test_trials_do_not_touch_each_others_settings() -> None:
    """The values of one trial are not found in the next, nor in what all share."""
    tried = space({"optim.lr": {"uniform": [0.1, 0.2]}}, settings={"optim": {"epochs": 3}})
    assert tried.settings({"optim.lr": 0.15})["optim"] == {"epochs": 3, "lr": 0.15}
    assert tried.settings({})["optim"] == {"epochs": 3}
    assert tried.settings({"optim.lr": 0.2})["optim"]["lr"] == 0.2


def test_settings_outside_of_the_space_are_not_tried() -> None:
    """Without the shipped value among the choices there is nothing to compare with, and that is said."""
    assert space({"optim.lr": {"uniform": [0.5, 0.6]}}).defaults() is None
    assert space({"optim.lr": {"uniform": [1e-4, 0.6]}}).defaults() == {"optim.lr": 1e-3}


def test_a_preset_is_for_training() -> None:
    """A search without training has no preset to begin with."""
    with pytest.raises(ConfigError, match="does not train"):
        space({"looks": {"choice": [1, 2]}}, job="remove", preset="smoke")


@pytest.mark.parametrize("kind", ["asha", "median", "none"])
@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_a_search_may_be_of_short_trainings(kind: str, epochs: int) -> None:
    """Trainings that are shorter than the scheduler's grace period are run to their end."""
    pytest.importorskip("ray.tune")
    from pipelines.sweep.search import make_scheduler
    from pipelines.sweep.trials import SweepContext

    settings = {"optim": {"epochs": epochs}}
    sweep = parse_settings(
        SweepSettings,
        {"search": {"optim.lr": {"uniform": [0.0001, 0.01]}}, "settings": settings, "scheduler": {"kind": kind}},
    )
    assert make_scheduler(SweepContext(sweep, SearchSpace(sweep), "runs", 1, None)) is not None
