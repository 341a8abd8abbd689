"""The sweep: a file with a search space in, the best settings and weights out.

python -m pipelines.tune smoke    the same as ``cutray tune smoke``
"""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cutray.config import SweepSettings, parse_settings
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.ray_address import resolve_address
from cutray.console.run import run
from cutray.errors import ConfigError, DatasetError
from cutray.imaging.files import write_atomically
from pipelines.ray_session import ray_session, require_gpus_here
from pipelines.run_settings import assign_changes, merged, read_yaml
from pipelines.sweep.shipped import find_space
from pipelines.sweep.space import SearchSpace
from pipelines.sweep.trial_results import SWEEP, read_trial_results

_STORE_BYTES = 512 << 20
_VARIABLES = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_worker_niceness": "0",  # Ray makes its workers give way to all else, but here they are the point
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the list of trials is ours
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # what a crash may cost
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_maximum_startup_concurrency": "8",  # else Ray warns of every process that waits for others
}


@click.command(
    cls=GroupedCommand, epilog="Exit code: 0 searched to the end, 1 no trial succeeded, 2 wrong usage or configuration."
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@settings_options(SweepSettings)
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="A setting of all trials.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be searched, and stop.")
@click.option("--resume", type=click.Path(path_type=Path), help="Folder of a sweep that was interrupted: go on there.")
@requires_extra("train", "ray", "optuna", "torch", "yaml")
def tune(file: Path | None, dry_run: bool, resume: Path | None, changes: tuple[str, ...], **options: Any) -> int:
    """Search for better settings, on this machine or on a Ray cluster; every trial is a run in MLflow.

    \b
    cutray tune smoke                                            drawn scenes, a few minutes, no data needed
    cutray tune finetune --data shoes/                           your own products
    cutray tune edges --data shoes/                              settings of the mask, without training
    cutray tune my-space.yaml --data shoes/ --trials 40 --max-minutes 120 --set optim.epochs=12
    cutray tune --resume runs/smoke-20260101-120000              go on after an interruption
    cutray train --config runs/NAME/best.yaml --data shoes/      train on with what was found
    """
    if (file is None) == (resume is None):
        raise ConfigError(got="a file and --resume together" if file else "no file", allowed="FILE, or --resume DIR")
    sweep = _begun(resume) if resume else _settings(find_space(Path(str(file))), given(options), changes)
    sweep = sweep.model_copy(update={"address": resolve_address(sweep.address)})
    space = SearchSpace(sweep)
    _check_data(sweep, space)
    if dry_run:
        click.echo(_describe(sweep, space))
        return 0
    from pipelines.sweep.resources import concurrent_locally, resources_of

    here = concurrent_locally(sweep, space)
    cpus, gpus = resources_of(sweep, space)
    if sweep.address is None:
        require_gpus_here(gpus)
    with ray_session(sweep.address, math.ceil(here * cpus) + 1, _STORE_BYTES, "train", _VARIABLES):
        return _search(sweep, space, here)


def _search(sweep: SweepSettings, space: SearchSpace, here: int) -> int:
    """Search on the cluster that this process is connected to, and write down what was found."""
    from pipelines.sweep import results
    from pipelines.sweep.console_callback import ConsoleCallback
    from pipelines.sweep.resources import concurrent_on_cluster
    from pipelines.sweep.search import search
    from pipelines.sweep.trials import SweepContext

    concurrent = concurrent_on_cluster(sweep if sweep.address else sweep.model_copy(update={"concurrent": here}), space)
    folder = Path(sweep.save_dir).resolve() / sweep.name
    tracking = _open_tracking(sweep, folder)
    context = SweepContext(sweep, space, str(folder), _threads(concurrent, sweep), tracking)
    click.echo(f"{sweep.trials} trials, {concurrent} at a time, in {folder}", err=True)
    search(context, concurrent, ConsoleCallback(str(folder), sweep.metric, sweep.mode, sweep.trials))
    trial_results = read_trial_results(folder)
    if any(one.status in ("waiting", "running") for one in trial_results):
        click.echo(f"interrupted; go on with: cutray tune --resume {folder}", err=True)
        return 130
    try:
        best = results.best_of(trial_results, sweep.mode)
    except Exception:
        results.close_tracking(context, trial_results, None, [])
        raise
    verdict = results.verdict_text(trial_results, best, space.defaults(), sweep)
    held_out = results.evaluate_held_out(context, best) if sweep.job == "remove" else {}
    settings, weights = results.write_settings(context, best), results.keep_weights(context, trial_results, best)
    pictures = results.draw_plots(space, trial_results, sweep, folder)
    report = results.write_report(context, trial_results, verdict, pictures, held_out)
    results.close_tracking(context, trial_results, best, [settings, report, *pictures])
    click.echo(verdict, err=True)
    for name, scores in held_out.items():
        click.echo(
            f"on photos that the search has not seen, {name}: {sweep.metric} {scores[sweep.metric]:.5f}", err=True
        )
    click.echo(f"report: {report}\nbest settings: {settings}", err=True)
    if weights is not None:
        click.echo(f"try them: cutray remove photo.jpg -m {weights}", err=True)
        click.echo(f"train on: cutray train --config {settings}", err=True)
    click.echo(results.summary(context, trial_results, best))
    return 0


def _settings(file: Path, options: dict[str, Any], changes: tuple[str, ...]) -> SweepSettings:
    """Put the sweep's settings together: file, then options."""
    values = merged(read_yaml(file), options)
    base = values.get("settings") or {}
    if not isinstance(base, dict):
        raise ConfigError(got=f"settings = {base!r:.60} in {file}", allowed="a table of settings")
    values["settings"] = merged({}, base)
    assign_changes(values["settings"], changes)
    if not values.get("name"):
        values["name"] = f"{file.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return parse_settings(SweepSettings, values)


def _begun(folder: Path) -> SweepSettings:
    """Read the settings of a sweep that was begun."""
    try:
        values = json.loads((folder / SWEEP).read_text())["sweep"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(got=f"{folder} holds no sweep: {error}", fix="name the folder of a sweep") from error
    place = folder.resolve()  # "." has no name
    return parse_settings(SweepSettings, {**values, "save_dir": str(place.parent), "name": place.name})


def _open_tracking(sweep: SweepSettings, folder: Path) -> tuple[str, str] | None:
    """Write the sweep down, and open its run in MLflow; one that was begun goes on in its own."""
    from cutray.models.registry import store_address
    from cutray.training.runs import TRACKING_FILE
    from cutray.training.stored_settings import flatten
    from cutray.training.tracking import take_up_run

    data = json.dumps({"sweep": sweep.model_dump()}, indent=1)
    write_atomically(folder / SWEEP, data.encode(), overwrite=True)
    uri = store_address(sweep.tracking_uri, sweep.save_dir)
    if uri is None:
        return None
    facts = flatten({**sweep.model_dump(), "search": {name: str(entry) for name, entry in sweep.search.items()}})
    run_id = take_up_run(folder / TRACKING_FILE, uri, sweep.experiment, sweep.name, facts, {"kind": "sweep"})
    return (uri, run_id) if run_id else None


def _threads(concurrent: int, sweep: SweepSettings) -> int:
    """Share this machine's processors among the trials; on a cluster a trial keeps to what it asked for."""
    from cutray.engines.hardware import usable_cores

    return 1 if sweep.address else max(1, usable_cores() // concurrent)


def _check_data(sweep: SweepSettings, space: SearchSpace) -> None:
    """Find the photos before anything is started."""
    if sweep.job == "train":
        from cutray.config import TrainSettings
        from cutray.training.runs import prepare_run

        prepare_run(parse_settings(TrainSettings, space.base))
        return
    from pipelines.sweep.trials import held_out_samples

    if not sweep.data or any(not group for group in held_out_samples(sweep).values()):
        raise DatasetError(
            got="no photos to search on" if not sweep.data else "a folder with a single photo",
            allowed="folders with images/ and masks/, two photos or more in each",
            fix="name them with --data",
        )


def _describe(sweep: SweepSettings, space: SearchSpace) -> str:
    """Say what would be searched."""
    lines = [f"{sweep.trials} trials by {sweep.searcher}, {sweep.scheduler.kind}; {sweep.mode} {sweep.metric}"]
    for one in space.dimensions:
        when = "".join(f", when {path} is {' or '.join(map(str, allowed))}" for path, allowed in one.when.items())
        lines.append(f"  {one.path}: {one.kind} {', '.join(map(str, one.values))}{when}")
    first = space.defaults()
    lines.append(f"first trial: {first}" if first else "the settings as they are lie outside: they are not tried")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(tune))
