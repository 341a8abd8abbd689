"""The gate to production: a model enters the registry, and becomes champion if it is no worse than the present one.

python -m pipelines.register shoes.onnx --name shoes --data held-out/    the same as ``cutray register …``
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from cutray.config import RemoverSettings, parse_settings
from cutray.console.extras import requires_extra
from cutray.console.run import run
from cutray.errors import ConfigError
from cutray.evaluation.datasets import find_samples
from cutray.evaluation.metrics import summarise
from cutray.evaluation.report import ModelScores
from cutray.evaluation.uncertainty import bootstrap_interval
from cutray.models import registry
from cutray.models.int8_stats import SUFFIX
from cutray.models.weights import Weights, resolve
from pipelines.evaluate import score_model

_SHOWN = ("iou", "weighted_f", "mae", "boundary_iou")


@click.command(epilog="Exit code: 0 it is champion now, 1 it was registered but is not good enough, 2 wrong usage.")
@click.argument("weights")
@click.option("--name", required=True, help="Name of the model in the registry.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Held-out photos with masks, on which it competes with the present champion.",
)
@click.option("--alias", default="champion", show_default=True, help="Alias that the winner gets.")
@click.option("--min-iou", default=0.5, show_default=True, help="Lowest mean IoU that a first champion needs.")
@click.option("--tolerance", default=0.0, show_default=True, help="Loss of mean IoU that is borne.")
@requires_extra("onnx,train", "torch", "onnx", "onnxruntime", "mlflow")
def register(weights: str, name: str, data: Path, alias: str, min_iou: float, tolerance: float) -> int:
    """Register WEIGHTS in MLflow, and let the alias point to it if it is no worse than the champion.

    The registry is that of MLFLOW_TRACKING_URI, or runs/mlflow.db here.

    \b
    cutray register runs/shoes/best.safetensors --name shoes --data held-out/
    cutray serve --model models:/shoes@champion
    """
    samples = find_samples(data)
    candidate = resolve(weights)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _collect(candidate, folder)
        scores = _scores(str(folder / registry.FILE), samples)
        champion = registry.champion_of(name, alias)
        rival = _scores(champion, samples) if champion else None
        means = summarise([case.scores for case in scores.cases])
        good, reason = _judge(scores, rival, min_iou, tolerance)
        facts = {key: f"{means[key]:.5f}" for key in _SHOWN}
        version = registry.register(name, folder, {**facts, "data": data.name, "verdict": reason})
    click.echo(f"{name} version {version}: " + ", ".join(f"{key} {value}" for key, value in facts.items()), err=True)
    if good:
        registry.set_alias(name, alias, version)
    click.echo(f"{'now' if good else 'not'} {alias}: {reason}", err=True)
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
    target.with_suffix(".toml").write_text(describe_model(weights.spec), encoding="utf-8")


def _scores(model: str, samples: Any) -> ModelScores:
    """Score a model."""
    settings = parse_settings(RemoverSettings, {"model": model, "only_mask": True})
    scores, failed = score_model(settings, samples, None)
    if failed:
        raise ConfigError(got=f"{failed} held-out photos cannot be used", fix="mend or remove them")
    return scores


def _judge(scores: ModelScores, rival: ModelScores | None, min_iou: float, tolerance: float) -> tuple[bool, str]:
    """Compare with the champion photo by photo, or with the lowest allowed score."""
    ours = np.array([case.scores.iou for case in scores.cases])
    if rival is None:
        return bool(ours.mean() >= min_iou), f"mean IoU {ours.mean():.4f}, a first champion needs {min_iou}"
    gain = ours - np.array([case.scores.iou for case in rival.cases])
    low, high = bootstrap_interval(gain.tolist())
    text = f"IoU {gain.mean():+.4f} against {rival.name}, 95 % interval [{low:+.4f}, {high:+.4f}], n = {len(gain)}"
    return bool(gain.mean() >= -tolerance), text


if __name__ == "__main__":
    sys.exit(run(register))
