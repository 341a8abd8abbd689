"""The ensemble: several networks, trained here or by a sweep, as one file; compared with what else its cost buys.

python -m pipelines.train_ensemble --from-sweep runs/shoes    the same as ``cutray train-ensemble …``
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutray.config import RemoverSettings, TrainSettings, fingerprint, parse_settings, result_values
from cutray.console.extras import requires_extra
from cutray.console.options import given
from cutray.console.progress import download_progress
from cutray.console.run import run
from cutray.errors import ConfigError
from cutray.evaluation.report import ModelScores, markdown_table
from cutray.models.weights import Weights, resolve
from cutray.preflight import check_new_file
from pipelines.run_settings import PRESETS
from pipelines.scoring import score_model, scored_samples
from pipelines.sweep.trial_results import RUNS, SWEEP, ranked, read_trial_results
from pipelines.train import new_settings, training_session
from pipelines.training_run.done_note import noted_settings, write_note
from pipelines.training_run.ensemble import write_ensemble

if TYPE_CHECKING:
    from cutray.training.runs import FitResult

_DONE = "member-done.json"


@click.command("train-ensemble", epilog="Exit code: 0 done, 1 something failed, 2 wrong usage or configuration.")
@click.argument("weights", nargs=-1)
@click.option("--from-sweep", type=click.Path(path_type=Path), help="Take the best trials of this sweep.")
@click.option("--members", type=click.IntRange(min=2), default=3, show_default=True, help="How many, where not named.")
@click.option("--data", "folders", multiple=True, help="Train members on this folder, each from another seed.")
@click.option("--preset", type=click.Choice(PRESETS), help="Settings that they are trained with.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings that differ from them.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Any other setting of the training.")
@click.option("--save-dir", help="Folder for the members' runs.  [default: runs]")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option("--held-out", type=click.Path(path_type=Path), help="Compare on these photos with known masks.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@requires_extra("onnx,train", "torch", "onnx", "onnxruntime", "yaml", "ray")
def train_ensemble(
    weights: tuple[str, ...],
    from_sweep: Path | None,
    members: int,
    output: Path,
    held_out: Path | None,
    overwrite: bool,
    **training: Any,
) -> None:
    """Put several networks together; the file works wherever a model is named.

    \b
    cutray train-ensemble --from-sweep runs/shoes --members 3 -o shoes.onnx --held-out held-out/
    cutray train-ensemble --data shoes/ --preset finetune --members 3 -o shoes.onnx
    cutray train-ensemble a.safetensors b.safetensors c.safetensors -o three.onnx
    cutray remove photo.jpg -m three.onnx
    """
    check_new_file(output, overwrite=overwrite)
    wanted = bool(weights) + (from_sweep is not None) + any(training[name] for name in ("folders", "preset", "config"))
    if wanted != 1:
        raise ConfigError(
            got="several sources of members" if wanted else "no members",
            allowed="WEIGHTS, or --from-sweep, or --data, --preset and --config",
            fix="choose one",
        )
    if from_sweep is not None:
        weights = _best_of_sweep(from_sweep, members)
    elif not weights:
        preset, config, changes = (training[key] for key in ("preset", "config", "changes"))
        options = given({"data.folders": training["folders"], "save_dir": training["save_dir"]})
        base = new_settings(preset, config, options, changes)
        weights = train_members(base, output.stem, members, _train_on_ray)
    with download_progress() as report:
        found = [resolve(one, progress=report) for one in weights]
    click.echo(f"{write_ensemble(output, found)}: {output}", err=True)
    facts: dict[str, Any] = {"job": "train-ensemble", "file": str(output), "members": [str(one.path) for one in found]}
    if held_out is not None:
        facts["scores"] = _compare(output, found, held_out)
    click.echo(f"try it: cutray remove photo.jpg -m {output}", err=True)
    click.echo(json.dumps(facts))


def _best_of_sweep(folder: Path, members: int) -> tuple[str, ...]:
    """Name the weights of a sweep's best trials."""
    try:
        mode = json.loads((folder / SWEEP).read_text())["sweep"]["mode"]
        trial_results = ranked(read_trial_results(folder), mode)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(got=f"{folder} holds no sweep: {error}", fix="name the folder of a sweep") from error
    paths = [folder / RUNS / one.trial_id / "best.safetensors" for one in trial_results if one.score is not None]
    there = [str(path) for path in paths if path.is_file()][:members]
    if len(there) < members:
        raise ConfigError(
            got=f"{len(there)} trained trials in {folder}", allowed=f"{members} or more", fix="lower --members"
        )
    return tuple(there)


def _train_on_ray(settings: TrainSettings) -> FitResult:
    """Train one run on Ray."""
    from cutray.training.runs import fit

    with training_session(settings) as actor:
        return fit(settings, progress_actor=actor)


def train_members(
    base: TrainSettings, name: str, members: int, train: Callable[[TrainSettings], FitResult]
) -> tuple[str, ...]:
    """Train networks that differ in their seed alone; those that are done with the same settings and photos are kept.

    A run that was stopped is gone on with.

    Args:
        base: Settings of all of them.
        name: What their runs are named after.
        members: How many.
        train: Trains one run.

    Returns:
        The weights of each.

    Raises:
        ConfigError, TrainingError: A run of that name was begun with other settings or photos.
        DatasetError: Photos or masks cannot be used.
        KeyboardInterrupt: The user has stopped it; what was reached is kept.
    """
    from cutray.data.catalog import build_catalog
    from cutray.training.runs import BEST_FILE

    # The split of each member follows from these photos and its own seed.
    photos = build_catalog(base.data, base.seed).fingerprint
    paths = []
    for seed in range(members):
        own = {"seed": seed, "name": f"{name}-member-{seed + 1}"}
        settings = parse_settings(TrainSettings, base.model_dump() | own)
        run_dir = Path(settings.save_dir).resolve() / settings.name
        path, done = run_dir / BEST_FILE, run_dir / _DONE
        wanted = fingerprint({**result_values(settings), "photos": photos})
        # Weights alone do not tell that a run is done: one that was stopped has left some too.
        if not (path.is_file() and noted_settings(done) == wanted):
            click.echo(f"member {seed + 1} of {members}", err=True)
            try:
                path = train(settings).best
            except KeyboardInterrupt:
                told = f"{seed} of {members} members are done"
                click.echo(f"stopped; {told}; the same command goes on with what is in {settings.save_dir}", err=True)
                raise
            write_note(done, wanted)
        paths.append(str(path))
    return tuple(paths)


def _compare(ensemble: Path, members: Sequence[Weights], folder: Path) -> dict[str, float]:
    """Score the ensemble, each member, and the best member with at least as many passes of its network."""
    samples = scored_samples(folder, parse_settings(RemoverSettings, {"model": str(ensemble), "only_mask": True}))
    rows: list[ModelScores] = []

    def add(model: str, name: str, looks: int) -> float:
        settings = parse_settings(RemoverSettings, {"model": model, "looks": looks, "only_mask": True})
        scores, _ = score_model(settings, samples, None, name=name)
        rows.append(scores)
        return math.fsum(case.scores.iou for case in scores.cases) / len(scores.cases)

    ious = {f"ensemble of {len(members)}": add(str(ensemble), f"ensemble of {len(members)}", 1)}
    for number, member in enumerate(members, 1):
        ious[f"member {number}"] = add(str(member.path), f"member {number}", 1)
    best = max(range(len(members)), key=lambda index: ious[f"member {index + 1}"])
    looks = 2 if len(members) == 2 else 4
    name = f"member {best + 1}, {looks} looks"
    ious[name] = add(str(members[best].path), name, looks)
    click.echo(markdown_table(rows))
    return ious


if __name__ == "__main__":
    sys.exit(run(train_ensemble))
