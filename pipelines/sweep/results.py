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
from cutray.evaluation.html_page import html_page, html_table
from cutray.imaging.files import write_atomically
from pipelines.run_settings import assign
from pipelines.sweep.space import SearchSpace
from pipelines.sweep.trial_results import RUNS, TrialResult, format_choices, ranked
from pipelines.sweep.trials import SweepContext, TrialScorer, held_out_samples, train_settings

BEST, REPORT, PARALLEL, IMPORTANCE = "best.yaml", "report.html", "parallel.png", "importance.png"
_ENOUGH_TO_RANK = 4
_STYLE = "img{max-width:100%;background:#fff}"


def best_of(trial_results: Sequence[TrialResult], mode: str) -> TrialResult:
    """Return the trial with the best score.

    Raises:
        TrainingError: No trial has one.
    """
    first = ranked(list(trial_results), mode)[0] if trial_results else None
    if first is None or first.score is None:
        errors = sorted({one.error for one in trial_results if one.error})
        raise TrainingError(
            got=f"none of {len(trial_results)} trials has a score: {'; '.join(errors) or 'they were stopped'}",
            fix="mend the settings that all trials share, or give the search more time",
        )
    return first


def write_settings(context: SweepContext, best: TrialResult) -> Path:
    """Write the best trial's settings so that ``cutray train --config`` reads them.

    Args:
        context: What all trials shared.
        best: The best trial.
    """
    values: dict[str, Any] = {}
    whole = parse_settings(context.space.kind, context.space.settings(best.chosen)).model_dump(mode="json")
    _copy_given(whole, context.space.settings(best.chosen), values)
    sweep = context.sweep
    head = f"# Best of {sweep.trials} trials of sweep {sweep.name}: {sweep.metric} {best.score:.4f}.\n"
    path = Path(context.folder) / BEST
    write_atomically(path, (head + yaml.safe_dump(values, sort_keys=False)).encode(), overwrite=True)
    return path


def _copy_given(whole: dict[str, Any], given: dict[str, Any], into: dict[str, Any], prefix: str = "") -> None:
    """Copy what was given, with the values as they were understood."""
    for name, value in given.items():
        if isinstance(value, dict):
            _copy_given(whole[name], value, into, f"{prefix}{name}.")
        else:
            assign(into, f"{prefix}{name}", whole[name])


def keep_weights(context: SweepContext, trial_results: Sequence[TrialResult], best: TrialResult) -> Path | None:
    """Take the best weights out of every trial, copy those of the best one, and remove the checkpoints.

    Args:
        context: What all trials shared.
        trial_results: All trials.
        best: The best of them.

    Returns:
        The best weights, or None when nothing was trained.
    """
    if context.sweep.job != "train":
        return None
    from cutray.evaluation.drift import copy_fingerprint
    from cutray.training.model_card import card_path
    from cutray.training.runs import BEST_FILE, export_best

    target = Path(context.folder) / BEST_FILE
    for trial_result in trial_results:
        run_dir = Path(context.folder) / RUNS / trial_result.trial_id
        if trial_result.score is None or not run_dir.is_dir():
            continue
        if not (run_dir / BEST_FILE).is_file() or any(run_dir.glob("checkpoint_*")):
            export_best(train_settings(context, trial_result.chosen, trial_result.trial_id), run_dir)
        if trial_result == best:
            for name in (BEST_FILE, Path(BEST_FILE).with_suffix(".toml").name, card_path(Path(BEST_FILE)).name):
                write_atomically(target.with_name(name), (run_dir / name).read_bytes(), overwrite=True)
            copy_fingerprint(run_dir / BEST_FILE, target)
        for checkpoint in run_dir.glob("checkpoint_[0-9]*"):
            shutil.rmtree(checkpoint)
    return target


def evaluate_held_out(context: SweepContext, best: TrialResult) -> dict[str, dict[str, float]]:
    """Score the best settings, and those left as they are, on the photos that the search has not seen."""
    scores = {}
    for name, chosen in (("as they are", context.space.defaults() or {}), ("best", best.chosen)):
        scorer = TrialScorer(context, chosen)
        for folder, samples in held_out_samples(context.sweep).items():
            scorer.add(folder, samples)
        scores[name] = scorer.means()
    return scores


def draw_plots(
    space: SearchSpace, trial_results: Sequence[TrialResult], sweep: SweepSettings, folder: Path
) -> list[Path]:
    """Draw which values led to which scores, and which settings mattered most.

    Args:
        space: The search space.
        trial_results: All trials.
        sweep: Metric and mode.
        folder: Where the pictures go.

    Returns:
        The pictures, none of them when there are too few trials to compare.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import optuna
    from optuna.visualization import matplotlib as plots

    scored = [one for one in trial_results if one.score is not None]
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
    context: SweepContext,
    trial_results: Sequence[TrialResult],
    verdict: str,
    pictures: Sequence[Path],
    held_out: dict[str, dict[str, float]],
) -> Path:
    """Write the page of a sweep, which needs no other file.

    Args:
        context: What all trials shared.
        trial_results: All trials.
        verdict: What the search has shown, in one sentence.
        pictures: From ``draw_plots``.
        held_out: From ``evaluate_held_out``; empty in training.
    """
    sweep, parts = context.sweep, []
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<p><img alt="{picture.stem}" src="data:image/png;base64,{data}"></p>')
    if held_out:
        names = [name for name in next(iter(held_out.values())) if name.split(".")[-1] == sweep.metric]
        rows = [[settings, *(f"{scores[name]:.5f}" for name in names)] for settings, scores in held_out.items()]
        parts.append("<h2>Photos that the search has not seen</h2>" + html_table([["settings", *names], *rows]))
    rows = [
        [
            str(one.number),
            "" if one.score is None else f"{one.score:.5f}",
            str(one.rounds),
            f"{one.seconds:.0f} s",
            one.status + (f": {one.error}" if one.error else ""),
            format_choices(one.chosen),
        ]
        for one in ranked(list(trial_results), sweep.mode)
    ]
    parts.append("<h2>Trials</h2>" + html_table([["trial", sweep.metric, "rounds", "time", "", "settings"], *rows]))
    page = html_page(sweep.name, [f"<p>{html.escape(verdict)}</p>", *parts], _STYLE)
    path = Path(context.folder) / REPORT
    write_atomically(path, page.encode(), overwrite=True)
    return path


def verdict_text(
    trial_results: Sequence[TrialResult], best: TrialResult, first: dict[str, Any] | None, sweep: SweepSettings
) -> str:
    """Say in one sentence whether the search has found anything better than what was there."""
    line = f"best {sweep.metric} {best.score:.4f} in trial {best.number}: {format_choices(best.chosen)}"
    before = next((one for one in trial_results if one.chosen == first), None)
    if before is None or before.score is None or best.score is None:
        return f"{line}; the settings as they are were not tried"
    if before == best:
        return f"nothing better than the settings as they are was found: {sweep.metric} {before.score:.4f}"
    return f"{line}; the settings as they are: {before.score:.4f}"


def close_tracking(
    context: SweepContext, trial_results: Sequence[TrialResult], best: TrialResult | None, files: Sequence[Path]
) -> None:
    """End the sweep's run in MLflow, and those of trials that were stopped before they could do so themselves."""
    if context.tracking is None:
        return
    from cutray.training.tracking import Tracker, close_children, close_run

    uri, run_id = context.tracking
    if best is not None and best.score is not None:
        tracker = Tracker(context.tracking)
        tracker.log({f"best_{context.sweep.metric}": best.score, "trials": float(len(trial_results))}, step=0)
        tracker.close()
    ends = {one.trial_id: "FAILED" if one.status == "failed" else "FINISHED" for one in trial_results}
    close_children(uri, run_id, context.sweep.experiment, ends)
    close_run(uri, run_id, "FINISHED" if best is not None else "FAILED", [path for path in files if path.is_file()])


def summary(context: SweepContext, trial_results: Sequence[TrialResult], best: TrialResult) -> str:
    """Write the line that programs read."""
    by_status = {
        status: sum(one.status == status for one in trial_results) for status in {one.status for one in trial_results}
    }
    facts = {"job": "tune", "sweep": context.folder, "trials": len(trial_results), "status": by_status}
    return json.dumps({**facts, "best": best.chosen, context.sweep.metric: best.score, "trial": best.trial_id})
