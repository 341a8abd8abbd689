"""The gate to production: a model enters the registry, and becomes champion if it is no worse than the present one.

python -m pipelines.register shoes.onnx --name shoes --data held-out/    the same as ``cutray register …``
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from cutray.config import RemoverSettings, parse_settings
from cutray.console.extras import requires_extra
from cutray.console.run import run
from cutray.evaluation.drift import copy_fingerprint
from cutray.evaluation.metrics import summarise
from cutray.evaluation.report import ModelScores
from cutray.evaluation.uncertainty import bootstrap_interval
from cutray.models import registry
from cutray.models.int8_stats import SUFFIX
from cutray.models.weights import Weights, resolve
from pipelines.scoring import score_all, scored_samples

# What a first champion has to beat where its run did not start from weights.
_FIRST_RIVAL = "u2net"
_SHOWN = ("iou", "weighted_f", "mae", "boundary_iou")


@click.command(epilog="Exit code: 0 it is champion now, 1 it was registered but is not good enough, 2 wrong usage.")
@click.argument("weights")
@click.option("--name", required=True, help="Name of the model in the registry.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Held-out photos with masks, on which it competes with its rival.",
)
@click.option("--alias", default="champion", show_default=True, help="Alias that the winner gets.")
@click.option("--min-iou", default=0.5, show_default=True, help="Lowest mean IoU that a first champion needs.")
@click.option("--tolerance", default=0.0, show_default=True, help="Loss of mean IoU that is borne.")
@click.option(
    "--rival",
    help="Model that it competes with.  [default: the champion; without one what its run started from, else u2net]",
)
@click.option("--force", is_flag=True, help="Give it the alias even if it is worse.")
@requires_extra("onnx,train", "torch", "onnx", "onnxruntime", "mlflow")
def register(
    weights: str, name: str, data: Path, alias: str, min_iou: float, tolerance: float, rival: str | None, force: bool
) -> int:
    """Register WEIGHTS in MLflow, and let the alias point to it if it is no worse than the champion.

    The champion is the version that the alias points to. Where there is none yet, WEIGHTS compete with those that their
    run started from, or with u2net. The registry is that of MLFLOW_TRACKING_URI, or runs/mlflow.db here.

    \b
    cutray register runs/shoes/best.safetensors --name shoes --data held-out/
    cutray register new.onnx --name shoes --data held-out/ --alias challenger --rival models:/shoes@champion
    cutray serve --model models:/shoes@champion
    """
    candidate = resolve(weights)
    champion = registry.champion_of(name, alias)
    opponent = rival or champion or _start_of(candidate.path) or _FIRST_RIVAL
    samples = scored_samples(data, _settings(opponent))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _collect(candidate, folder)
        scores = score_all(_settings(str(folder / registry.FILE)), samples)
        means = summarise([case.scores for case in scores.cases])
        better, reason = _compare(scores, score_all(_settings(opponent), samples), tolerance)
        if champion is None and means["iou"] < min_iou:
            better, reason = False, f"{reason}; mean IoU {means['iou']:.4f}, a first champion needs {min_iou}"
        good = better or force
        reason += "; forced" if force and not better else ""
        facts = {key: f"{means[key]:.5f}" for key in _SHOWN}
        _write_card(candidate, folder, scores, f"{data.name}: {reason}")
        version = registry.register(name, folder, {**facts, "data": data.name, "verdict": reason})
    click.echo(f"{name} version {version}: " + ", ".join(f"{key} {value}" for key, value in facts.items()), err=True)
    if good:
        registry.set_alias(name, alias, version)
    click.echo(f"{'now' if good else 'not'} {alias}: {reason}", err=True)
    if not good:
        click.echo(f"it is registered as models:/{name}/{version}; --force gives it the alias all the same", err=True)
    if good:
        click.echo(f"serve it: cutray serve --model models:/{name}@{alias}", err=True)
    summary: dict[str, Any] = {"job": "register", "name": name, "version": version, "champion": good, "reason": reason}
    click.echo(json.dumps({**summary, **{key: round(means[key], 5) for key in _SHOWN}}))
    return 0 if good else 1


def _collect(weights: Weights, folder: Path) -> None:
    """Put a model and all that belongs to it into a folder."""
    from cutray.models.export import describe_model, export_onnx
    from cutray.models.u2net import load_u2net

    target = folder / registry.FILE
    if weights.path.suffix.lower() == ".onnx":
        shutil.copyfile(weights.path, target)
        stats = weights.path.with_suffix(SUFFIX)
        if stats.is_file():
            shutil.copyfile(stats, target.with_suffix(SUFFIX))
    else:
        target.write_bytes(export_onnx(load_u2net(weights.path), weights.spec.input_size_px).data)
    copy_fingerprint(weights.path, target)
    target.with_suffix(".toml").write_text(describe_model(weights.spec), encoding="utf-8")


def _write_card(weights: Weights, folder: Path, scores: ModelScores, verdict: str) -> None:
    """Put the card of a model beside it, with how it did on the held-out photos."""
    from cutray.training.model_card import card_path, extend_card, model_card, score_table

    values = {key: [float(getattr(case.scores, key)) for case in scores.cases] for key in _SHOWN}
    registered = replace(weights, path=folder / registry.FILE)
    sections = {"Scores on held-out photos": f"{score_table(values)}\n\n{verdict}."}
    earlier = card_path(weights.path)  # an exported file has that of its run
    whole = earlier.read_text(encoding="utf-8") if earlier.is_file() else model_card(registered)
    card = extend_card(whole, sections)
    card_path(registered.path).write_text(card, encoding="utf-8")


def _settings(model: str) -> RemoverSettings:
    """Return the settings that a model competes with."""
    return parse_settings(RemoverSettings, {"model": model, "only_mask": True})


def _start_of(weights: Path) -> str:
    """Return what a file's training run started from; empty if it is of no run, or the run started from nothing."""
    settings = weights.parent / "settings.json"
    if not settings.is_file():
        return ""
    try:
        start = str(json.loads(settings.read_text()).get("init") or "")
    except (OSError, ValueError, AttributeError):
        return ""
    gone = Path(start).suffix and not start.startswith(registry.SCHEME) and not Path(start).is_file()
    return "" if gone else start


def _compare(scores: ModelScores, rival: ModelScores, tolerance: float) -> tuple[bool, str]:
    """Compare with the rival photo by photo; return whether it is no worse, and the figures in words."""
    gain = np.array([case.scores.iou for case in scores.cases]) - [case.scores.iou for case in rival.cases]
    low, high = bootstrap_interval(gain.tolist())
    text = f"IoU {gain.mean():+.4f} against {rival.name}, 95 % interval [{low:+.4f}, {high:+.4f}], n = {len(gain)}"
    return bool(gain.mean() >= -tolerance), text


if __name__ == "__main__":
    sys.exit(run(register))
