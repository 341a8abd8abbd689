"""What comes of a sweep: the best settings as a file, the best weights, pictures, a page, and tidy runs in MLflow."""

from __future__ import annotations

import base64
import html
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cutray.config import SweepSettings, parse_settings
from cutray.errors import TrainingError
from cutray.imaging.files import write_atomically
from pipelines.run_settings import assign
from pipelines.sweep.outcomes import RUNS, Outcome, ranked, shown
from pipelines.sweep.space import Space
from pipelines.sweep.trials import Cutter, Plan, held_out_samples, train_settings

BEST, REPORT, PARALLEL, IMPORTANCE = "best.yaml", "report.html", "parallel.png", "importance.png"
_ENOUGH_TO_RANK = 4
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}th,td{padding:.25rem .75rem;border-bottom:1px solid #8886;text-align:left}
img{max-width:100%;background:#fff}
"""


def best_of(outcomes: Sequence[Outcome], mode: str) -> Outcome:
    """Return the trial with the best score.

    Raises:
        TrainingError: No trial has one.
    """
    first = ranked(list(outcomes), mode)[0] if outcomes else None
    if first is None or first.score is None:
        errors = sorted({one.error for one in outcomes if one.error})
        raise TrainingError(
            got=f"none of {len(outcomes)} trials has a score: {'; '.join(errors) or 'they were stopped'}",
            fix="mend the settings that all trials share, or give the search more time",
        )
    return first


def write_settings(plan: Plan, best: Outcome) -> Path:
    """Write the best trial's settings so that ``cutray train --config`` reads them.

    Args:
        plan: What all trials shared.
        best: The best trial.
    """
    values: dict[str, Any] = {}
    whole = parse_settings(plan.space.kind, plan.space.settings(best.chosen)).model_dump(mode="json")
    _keep_given(whole, plan.space.settings(best.chosen), values)
    sweep = plan.sweep
    head = f"# Best of {sweep.trials} trials of sweep {sweep.name}: {sweep.metric} {best.score:.4f}.\n"
    path = Path(plan.folder) / BEST
    write_atomically(path, (head + yaml.safe_dump(values, sort_keys=False)).encode(), overwrite=True)
    return path


def _keep_given(whole: dict[str, Any], given: dict[str, Any], into: dict[str, Any], prefix: str = "") -> None:
    """Copy what was given, with the values as they were understood."""
    for name, value in given.items():
        if isinstance(value, dict):
            _keep_given(whole[name], value, into, f"{prefix}{name}.")
        else:
            assign(into, f"{prefix}{name}", whole[name])


def keep_weights(plan: Plan, outcomes: Sequence[Outcome], best: Outcome) -> Path | None:
    """Take the best weights out of every trial, copy those of the best one, and remove the checkpoints.

    Args:
        plan: What all trials shared.
        outcomes: All trials.
        best: The best of them.

    Returns:
        The best weights, or None when nothing was trained.
    """
    if plan.sweep.job != "train":
        return None
    from cutray.training.fit import BEST_FILE, export_best

    target = Path(plan.folder) / BEST_FILE
    for outcome in outcomes:
        run_dir = Path(plan.folder) / RUNS / outcome.trial_id
        if outcome.score is None or not run_dir.is_dir():
            continue
        if not (run_dir / BEST_FILE).is_file() or any(run_dir.glob("checkpoint_*")):
            export_best(train_settings(plan, outcome.chosen, outcome.trial_id), run_dir)
        if outcome == best:
            for name in (BEST_FILE, Path(BEST_FILE).with_suffix(".toml").name):
                write_atomically(target.with_name(name), (run_dir / name).read_bytes(), overwrite=True)
        for checkpoint in run_dir.glob("checkpoint_[0-9]*"):
            shutil.rmtree(checkpoint)
    return target


def confirm(plan: Plan, best: Outcome) -> dict[str, dict[str, float]]:
    """Score the best settings, and those left as they are, on the photos that the search has not seen."""
    scores = {}
    for name, chosen in (("as they are", plan.space.defaults() or {}), ("best", best.chosen)):
        cutter = Cutter(plan, chosen)
        for folder, samples in held_out_samples(plan.sweep).items():
            cutter.add(folder, samples)
        scores[name] = cutter.means()
    return scores


def draw(space: Space, outcomes: Sequence[Outcome], sweep: SweepSettings, folder: Path) -> list[Path]:
    """Draw which values led to which scores, and which settings mattered most.

    Args:
        space: The search space.
        outcomes: All trials.
        sweep: Metric and mode.
        folder: Where the pictures go.

    Returns:
        The pictures, none of them when there are too few trials to compare.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import optuna
    from optuna.visualization import matplotlib as plots

    scored = [one for one in outcomes if one.score is not None]
    varied = [one.path for one in space.dimensions if len({repr(other.chosen.get(one.path)) for other in scored}) > 1]
    if len(scored) < _ENOUGH_TO_RANK or not varied:
        return []
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if sweep.mode == "max" else "minimize")
    kinds = {one.path: one.distribution() for one in space.dimensions}
    for one in scored:
        own = {path: kinds[path] for path in one.chosen}
        study.add_trial(optuna.trial.create_trial(params=one.chosen, distributions=own, value=one.score))
    always = [one.path for one in space.dimensions if one.path in varied and not one.when]
    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        pictures = {PARALLEL: plots.plot_parallel_coordinate(study, params=varied, target_name=sweep.metric)}
        if always:
            pictures[IMPORTANCE] = plots.plot_param_importances(
                study, evaluator=evaluator, params=always, target_name=sweep.metric
            )
    for name, axes in pictures.items():
        figure: Any = axes.figure
        figure.set_size_inches((11, 4.5) if name == PARALLEL else (7, 1.2 + 0.4 * len(always)))
        figure.savefig(folder / name, dpi=110, bbox_inches="tight")
        written.append(folder / name)
    return written


def write_report(
    plan: Plan,
    outcomes: Sequence[Outcome],
    verdict: str,
    pictures: Sequence[Path],
    confirmed: dict[str, dict[str, float]],
) -> Path:
    """Write the page of a sweep, which needs no other file.

    Args:
        plan: What all trials shared.
        outcomes: All trials.
        verdict: What the search has shown, in one sentence.
        pictures: From ``draw``.
        confirmed: From ``confirm``; empty in training.
    """
    sweep, parts = plan.sweep, []
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<p><img alt="{picture.stem}" src="data:image/png;base64,{data}"></p>')
    if confirmed:
        names = [name for name in next(iter(confirmed.values())) if name.split(".")[-1] == sweep.metric]
        rows = [[settings, *(f"{scores[name]:.5f}" for name in names)] for settings, scores in confirmed.items()]
        parts.append("<h2>Photos that the search has not seen</h2>" + _table(["settings", *names], rows))
    rows = [
        [
            str(one.number),
            "" if one.score is None else f"{one.score:.5f}",
            str(one.rounds),
            f"{one.seconds:.0f} s",
            one.status + (f": {one.error}" if one.error else ""),
            shown(one.chosen),
        ]
        for one in ranked(list(outcomes), sweep.mode)
    ]
    parts.append("<h2>Trials</h2>" + _table(["trial", sweep.metric, "rounds", "time", "", "settings"], rows))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(sweep.name)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(sweep.name)}</h1><p>{html.escape(verdict)}</p>{''.join(parts)}</html>"
    )
    path = Path(plan.folder) / REPORT
    write_atomically(path, page.encode(), overwrite=True)
    return path


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def judge(outcomes: Sequence[Outcome], best: Outcome, first: dict[str, Any] | None, sweep: SweepSettings) -> str:
    """Say in one sentence whether the search has found anything better than what was there."""
    line = f"best {sweep.metric} {best.score:.4f} in trial {best.number}: {shown(best.chosen)}"
    before = next((one for one in outcomes if one.chosen == first), None)
    if before is None or before.score is None or best.score is None:
        return f"{line}; the settings as they are were not tried"
    if before == best:
        return f"nothing better than the settings as they are was found: {sweep.metric} {before.score:.4f}"
    return f"{line}; the settings as they are: {before.score:.4f}"


def close_tracking(plan: Plan, outcomes: Sequence[Outcome], best: Outcome | None, files: Sequence[Path]) -> None:
    """End the sweep's run in MLflow, and those of trials that were stopped before they could do so themselves."""
    if plan.tracking is None:
        return
    from cutray.training.tracking import Tracker, close_children, close_run

    uri, run_id = plan.tracking
    if best is not None and best.score is not None:
        tracker = Tracker(plan.tracking)
        tracker.log({f"best_{plan.sweep.metric}": best.score, "trials": float(len(outcomes))}, step=0)
        tracker.close()
    ends = {one.trial_id: "FAILED" if one.status == "failed" else "FINISHED" for one in outcomes}
    close_children(uri, run_id, plan.sweep.experiment, ends)
    close_run(uri, run_id, "FINISHED" if best is not None else "FAILED", [path for path in files if path.is_file()])


def summary(plan: Plan, outcomes: Sequence[Outcome], best: Outcome) -> str:
    """Write the line that programs read."""
    by_status = {status: sum(one.status == status for one in outcomes) for status in {one.status for one in outcomes}}
    facts = {"job": "tune", "sweep": plan.folder, "trials": len(outcomes), "status": by_status}
    return json.dumps({**facts, "best": best.chosen, plan.sweep.metric: best.score, "trial": best.trial_id})
