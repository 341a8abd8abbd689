"""Writes the card of a model: what it is, what it learned from, how good it is, and what it is not for.

Source: Mitchell et al., "Model cards for model reporting", FAT* 2019, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutray import __version__
from cutray.config import TrainSettings, parse_settings, result_values
from cutray.data.catalog import Catalog
from cutray.data.loading import SampleSpec
from cutray.errors import ConfigError
from cutray.evaluation.uncertainty import bootstrap_interval
from cutray.models.catalog import ModelSpec
from cutray.models.weights import Weights, resolve
from cutray.training.stored_settings import SETTINGS_FILE, read_settings

PROVENANCE_FILE, SCORES_FILE = "provenance.json", "validation.json"
_SUFFIX = ".card.md"
_ENDING = "Intended use"
_USE = """\
Made to cut subjects out of photos like those that it learned from. Look at some of your own photos before you rely on
it: scores tell how good it is on photos like those it was scored on, and nothing about others.
"""
_LIMITS = """\
- It marks what stands out. It does not know what a thing is, and names nobody.
- Its input is scaled to a square of fixed size: finer detail comes from the matting that follows, not from the network.
- Glass, smoke, motion blur, and subjects that the frame cuts are harder than the mean score says.
- Photos and masks that it learned from may have terms of their own. The card cannot know them.
"""


def card_path(weights: Path) -> Path:
    """Return where the card of a file of weights lies: ``shoes.card.md`` beside ``shoes.onnx``."""
    return weights.with_suffix(_SUFFIX)


def describe_provenance(
    settings: TrainSettings, catalog: Catalog, train: Sequence[SampleSpec], validation: Sequence[SampleSpec]
) -> bytes:
    """Note, while it is known, what a run starts and learns from; returns a JSON file for its folder.

    Args:
        settings: Those of the run.
        catalog: Its photos.
        train: Samples of an epoch.
        validation: Samples of the validation.
    """
    models = {role: name for role in ("init", "teacher") if (name := getattr(settings, role))}
    facts = {
        "cutray": __version__,
        "data": {
            "fingerprint": catalog.fingerprint,
            "photos to learn from": len(catalog.train),
            "samples of an epoch": len(train),
            "photos to validate on": len(catalog.validation),
            "samples of the validation": len(validation),
        },
        "models": {role: {"name": name, **_origin(resolve(name).spec)} for role, name in models.items()},
    }
    return json.dumps(facts, indent=1).encode()


def model_card(weights: Weights, sections: Mapping[str, str] | None = None, *, run_dir: Path | None = None) -> str:
    """Write the card of a file of weights.

    Args:
        weights: What it is about.
        sections: Further sections by their heading, such as how an exported file differs from the original.
        run_dir: Folder of the run that made it; None takes the folder of the file if that is one.

    Returns:
        Markdown.
    """
    spec, folder = weights.spec, run_dir or weights.path.parent
    size = f"{spec.input_size_px} × {spec.input_size_px}"
    name = folder.name if (folder / PROVENANCE_FILE).is_file() else spec.name
    facts = [
        ("file", f"`{weights.path.name}`, {weights.path.stat().st_size / 1e6:.1f} MB"),
        ("architecture", spec.architecture),
        ("input", f"{size} pixels, mean {spec.mean}, standard deviation {spec.std}, scale {spec.scale}"),
        ("licence of the weights", spec.license),
        ("what it is", spec.description),
    ]
    parts = [f"# Model card: {name}", _table(("fact", "value"), facts)]
    whole = {
        **dict(_run_sections(folder) if (folder / PROVENANCE_FILE).is_file() else _foreign_sections(spec)),
        **(sections or {}),
        _ENDING: _USE,
        "Limits": _LIMITS,
    }
    parts += [f"## {heading}\n\n{text.strip()}" for heading, text in whole.items()]
    return "\n\n".join(parts) + "\n"


def extend_card(card: str, sections: Mapping[str, str]) -> str:
    """Add sections to a card, before those that every card ends with."""
    facts, mark, ending = card.partition(f"## {_ENDING}\n")
    return facts + "".join(f"## {heading}\n\n{text.strip()}\n\n" for heading, text in sections.items()) + mark + ending


def score_table(scores: Mapping[str, Sequence[float]]) -> str:
    """Write means of scores with their 95 % intervals.

    Args:
        scores: For each metric, one value per photo.

    Returns:
        A table in Markdown, with the number of photos.
    """
    rows = []
    for name, values in scores.items():
        low, high = bootstrap_interval(values)
        rows.append((name, f"{sum(values) / len(values):.4f}", f"{low:.4f} to {high:.4f}", str(len(values))))
    return _table(("metric", "mean", "95 % interval", "photos"), rows)


def read_scores(run_dir: Path) -> dict[str, list[float]]:
    """Read the scores of a run's best weights: for each metric, one value per validation sample.

    Raises:
        ConfigError: The run has left none; earlier versions did not keep them.
    """
    try:
        scores: dict[str, list[float]] = json.loads((run_dir / SCORES_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            got=f"{run_dir / SCORES_FILE} cannot be read: {error}", fix="train that run anew, under another name"
        ) from error
    return scores


def _run_sections(run_dir: Path) -> Iterator[tuple[str, str]]:
    """Tell what is known of a training run."""
    known: dict[str, Any] = json.loads((run_dir / PROVENANCE_FILE).read_text())
    for role, heading in (("init", "Start weights"), ("teacher", "Teacher")):
        if origin := known["models"].get(role):
            yield heading, _table(("fact", "value"), [(key, str(value)) for key, value in origin.items()])
        elif role == "init":
            yield heading, "None: it was trained from random weights, so that no other weights' licence applies."
    facts = [(key, str(value)) for key, value in known["data"].items()]
    yield "Data", _table(("fact", "value"), [*facts, ("made with Cutray", known["cutray"])])
    settings = parse_settings(TrainSettings, read_settings(run_dir / SETTINGS_FILE))
    defaults = result_values(TrainSettings())
    changed = [
        (path, str(value), str(defaults[path]))
        for path, value in result_values(settings).items()
        if value != defaults[path]
    ]
    yield "Settings that differ from the defaults", _table(("setting", "value", "default"), changed)
    if (run_dir / SCORES_FILE).is_file():
        table = score_table(read_scores(run_dir))
        note = "On the run's own validation, which chose the best epoch: a little better than on photos it never saw."
        yield "Scores", f"{table}\n\n{note}"


def _foreign_sections(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Tell what is known of weights that no run here has made."""
    yield "Origin", _table(("fact", "value"), [(key, str(value)) for key, value in _origin(spec).items()])


def _origin(spec: ModelSpec) -> dict[str, str]:
    """Say whose weights these are."""
    return {
        "licence": spec.license,
        "origin": spec.origin,
        "trained on": ", ".join(spec.trained_on) or "not known",
        "sha256": spec.sha256 or "not pinned",
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; without rows, the word none."""
    if not rows:
        return "None."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(one.replace('|', '¦') for one in line)} |" for line in lines)
