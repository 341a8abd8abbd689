"""Training: a folder of photos and masks in, the weights of a network out.

python -m pipelines.train --data FOLDER    the same as ``cutray train --data FOLDER``
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutray.config import TrainSettings, parse_settings
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.ray_address import resolve_address
from cutray.console.run import run
from cutray.errors import ConfigError, CutrayError, OptionError
from cutray.imaging.files import write_atomically
from cutray.models.registry import store_address
from cutray.preflight import check_new_file
from pipelines.ray_session import ray_session, require_gpus_here, room_for
from pipelines.run_settings import PRESETS, as_yaml, assign, assign_changes, load_settings
from pipelines.training_run.pictures import draw_batch, draw_curves, draw_results
from pipelines.training_run.progress import report_lines, show_progress

if TYPE_CHECKING:
    from cutray.data.loading import SampleSpec
    from cutray.training.runs import FitResult

_DEFAULT_PRESET = "finetune"
# Settings that say what a run starts from, so that no preset is chosen for it.
_STARTS = ("init=", "architecture=")
_LEAST_STORE_BYTES = 512 << 20
# The largest batch that Ray's object store makes room for where memory decides its size later.
_AUTO_BATCH = 256
# Workers say nothing themselves; and Ray makes them give way to all else, but here they are the point.
_VARIABLES = {"RAY_TRAIN_ENABLE_PRINT_PATCH": "0", "RAY_worker_niceness": "0"}


@click.command(cls=GroupedCommand, epilog="Exit code: 0 trained, 1 the run failed, 2 wrong usage or configuration.")
@click.option("--preset", type=click.Choice(PRESETS), help="Settings to begin with.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings that differ from them.")
@settings_options(TrainSettings)
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Any other setting, e.g. optim.lr=0.0005.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Folder of a run to go on with; more --epochs extend it."
)
@click.option("--show-batch", type=click.Path(path_type=Path), help="Write a picture of varied samples and stop.")
@click.option(
    "--find-lr", type=click.Path(path_type=Path), help="Try rising learning rates, draw their losses (PNG), and stop."
)
@click.option("--lr-steps", type=click.IntRange(min=10), default=100, show_default=True, help="Steps of --find-lr.")
@click.option("--overwrite", is_flag=True, help="Replace the pictures of --show-batch and --find-lr if they exist.")
@click.option("--print-config", is_flag=True, help="Write the settings of the run as YAML, for --config, and stop.")
@click.option("--no-ray", is_flag=True, help="Train in this process, on one GPU if there is one; starts at once.")
@click.option("--check", is_flag=True, help="Check the data, compare the masks with a network's, and stop.")
@requires_extra("train", "ray", "torch", "safetensors", "yaml")
def train(
    preset: str | None,
    config: Path | None,
    changes: tuple[str, ...],
    resume: Path | None,
    show_batch: Path | None,
    find_lr: Path | None,
    lr_steps: int,
    overwrite: bool,
    check: bool,
    print_config: bool,
    no_ray: bool,
    **options: Any,
) -> int:
    """Train U²-Net on photos with masks, on this machine or on a Ray cluster.

    Without a preset, photos are learned from as with `--preset finetune`: from the published weights of u2netp. The
    presets u2netp and u2net start from random weights.

    \b
    cutray train --data shoes/ --preset finetune          from the published weights
    cutray train --data shoes/ --preset u2netp --epochs 40 --batch-size 16
    cutray train --image-dir photos/ --mask-dir masks/ --preset finetune
    cutray train --preset smoke                           drawn scenes: no data needed
    cutray train --data shoes/ --preset finetune --show-batch batch.png
    cutray train --data shoes/ --find-lr lr.png           which learning rate suits, and stop
    cutray train --data shoes/ --batch-size auto          as many samples per step as memory has room for
    cutray train --data shoes/ --folds 5                  cross-validation, and an ensemble of the folds
    cutray train --data shoes/ --check                    look at the data, and stop
    cutray train --data shoes/ --no-ray                   in one process, on one GPU if there is one
    cutray train --preset u2net --print-config > run.yaml the settings, to change them and use them with --config
    cutray train --resume runs/finetune-20260101-120000   go on after an interruption
    cutray train --resume runs/finetune-20260101-120000 --epochs 20
    """
    if find_lr is not None and find_lr.suffix.lower() != ".png":
        raise OptionError(
            got=f"{find_lr} for the plot of --find-lr", allowed="a name that ends in .png", fix="change it"
        )
    figures = find_lr.with_suffix(".json") if find_lr is not None else None
    for picture in (show_batch, find_lr, figures):
        if picture is not None:
            check_new_file(picture, overwrite=overwrite)
    settings = _settings(preset, config, given(options), changes, resume)
    if print_config:
        click.echo(as_yaml(settings), nl=False)
        return 0
    from cutray.training.runs import prepare_run
    from cutray.training.stored_settings import adopt_batch
    from pipelines.training_run.check import check_data, check_profile, describe_run

    settings = adopt_batch(settings)
    catalog, rows, held_out = prepare_run(settings)
    describe_run(settings, catalog, rows, held_out)
    check_profile(settings, len(rows))
    check_data(settings, catalog, always=check)
    if check:
        click.echo(json.dumps({"job": "train", "check": "passed", "train": len(rows), "validation": len(held_out)}))
        return 0
    if show_batch is not None:
        write_atomically(show_batch, draw_batch(settings, rows), overwrite=True)
        click.echo(f"16 samples as the network sees them: {show_batch}")
        return 0
    if find_lr is not None:
        return _suggest_lr(settings, rows, find_lr, lr_steps)
    if settings.data.folds and not settings.data.fold:
        return _train_folds(settings, no_ray=no_ray)
    return _train_once(settings, held_out, no_ray=no_ray)


def _train_once(settings: TrainSettings, held_out: Sequence[SampleSpec], *, no_ray: bool) -> int:
    """Train one run, draw how it went, and say what to do next."""
    from cutray.training.tracking import keep_files

    run_dir = Path(settings.save_dir) / settings.name
    try:
        result = _train(settings, no_ray=no_ray)
    except KeyboardInterrupt:
        kept = any(run_dir.glob("checkpoint_[0-9]*/sha256sums"))
        how = f"go on with: cutray train --resume {run_dir}" if kept else "before its first checkpoint"
        click.echo(f"stopped; {how}", err=True)
        return 130
    best = result.state.history[result.state.best_epoch]
    click.echo(f"best weights: {result.best} (epoch {result.state.best_epoch + 1})", err=True)
    click.echo(f"try them: cutray remove photo.jpg -m {result.best}", err=True)
    try:
        pictures = [
            draw_curves(result.run_dir, result.state.history),
            draw_results(result.run_dir, settings, result.best, held_out),
        ]
        if result.run_id is not None:
            keep_files(str(store_address(settings.tracking_uri, settings.save_dir)), result.run_id, pictures)
        click.echo(f"pictures: {', '.join(map(str, pictures))}", err=True)
    except (CutrayError, OSError, RuntimeError) as error:  # a run of hours has not failed for want of a picture
        warnings.warn(f"the pictures of the run could not be drawn: {error}", stacklevel=1)
    click.echo(f"train on: cutray train --resume {result.run_dir} --epochs {2 * settings.optim.epochs}", err=True)
    facts = {"run": str(result.run_dir), "best": str(result.best), "mlflow_run": result.run_id, **best}
    facts["epoch"] = result.state.best_epoch + 1
    click.echo(json.dumps({"job": "train", **facts}))
    return 0


def _suggest_lr(settings: TrainSettings, samples: Sequence[SampleSpec], picture: Path, steps: int) -> int:
    """Try rising learning rates, and say which one suits."""
    from cutray.training.batch_size import fitting_batch, settle_batch
    from cutray.training.lr_finder import find_lr

    settled = settle_batch(settings, samples, 1, fitting_batch)
    found = find_lr(settled, samples, num_training=steps)
    figures = found.write(picture)
    click.echo(f"losses over learning rates: {picture}, {figures}", err=True)
    click.echo(f"use it: --set optim.lr={found.suggestion:.2g} --batch-size {settled.optim.batch_size}", err=True)
    facts = {"job": "train", "find_lr": found.suggestion, "steps": len(found.rates), "figures": str(figures)}
    click.echo(json.dumps(facts))
    return 0


def _train_folds(settings: TrainSettings, *, no_ray: bool) -> int:
    """Train one run for each fold, score them together, and put their networks together."""
    from pipelines.training_run.folds import train_folds

    try:
        facts = train_folds(settings, lambda one: _train(one, no_ray=no_ray))
    except KeyboardInterrupt:
        click.echo("stopped; the same command with the same --name goes on, without the folds that are done", err=True)
        return 130
    click.echo(json.dumps({"job": "train", **facts}))
    return 0


def _train(settings: TrainSettings, *, no_ray: bool) -> FitResult:
    """Train in this process, or on Ray."""
    if no_ray:
        from cutray.training.local import fit_here

        return fit_here(settings, callbacks=[report_lines(settings)])
    from cutray.training.runs import fit

    with training_session(settings) as actor:
        return fit(settings, progress_actor=actor)


def _settings(
    preset: str | None, config: Path | None, options: dict[str, Any], changes: tuple[str, ...], resume: Path | None
) -> TrainSettings:
    """Take up the settings of a run, or put new ones together."""
    if resume is None:
        return new_settings(preset, config, options, changes)
    if preset or config:
        raise ConfigError(
            got="--resume together with --preset or --config",
            allowed="--resume with single settings that change, such as --epochs",
            fix="leave the others out",
        )
    values = _of_run(resume)
    for path, value in options.items():
        assign(values, path, value)
    assign_changes(values, changes)
    return parse_settings(TrainSettings, values)


def new_settings(
    preset: str | None, config: Path | None, options: dict[str, Any], changes: tuple[str, ...]
) -> TrainSettings:
    """Put the settings of a run together: preset, then file, then options.

    Args:
        preset: Name of a preset.
        config: YAML file.
        options: Values by dotted path, from the command line.
        changes: Others, written as PATH=VALUE.

    Raises:
        ConfigError: A setting is unknown or has a value that is not allowed.
    """
    if preset is None and config is None and not any(change.startswith(_STARTS) for change in changes):
        preset = _DEFAULT_PRESET
    values = load_settings(preset, config)
    for path, value in options.items():
        assign(values, path, value)
    assign_changes(values, changes)
    if not values.get("name"):
        values["name"] = f"{preset or 'run'}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return parse_settings(TrainSettings, values)


def _of_run(folder: Path) -> dict[str, Any]:
    """Read the settings of a run that was begun."""
    from cutray.training.stored_settings import SETTINGS_FILE, read_settings

    values = read_settings(folder / SETTINGS_FILE)
    return {**values, "save_dir": str(folder.resolve().parent), "name": folder.resolve().name}


@contextmanager
def training_session(settings: TrainSettings) -> Iterator[Any]:
    """Have Ray, and show how a run goes; yields the actor that the run reports to.

    Args:
        settings: The run's settings.
    """
    from cutray.data.loading import store_bytes
    from cutray.training.runs import cpus_needed

    least = settings.model_copy(update={"workers": settings.min_workers or settings.workers})
    gpus = least.workers * least.gpus_per_worker
    address = resolve_address(settings.address)
    if address is None:
        require_gpus_here(gpus)
    num_cpus = math.ceil(cpus_needed(settings)) + 1
    store = store_bytes(settings.data, settings.optim.batch_size or _AUTO_BATCH)
    with ray_session(address, num_cpus, max(_LEAST_STORE_BYTES, store), "train", _VARIABLES):
        room_for(cpus_needed(least), gpus)
        with show_progress(settings) as actor:
            yield actor


if __name__ == "__main__":
    sys.exit(run(train))
