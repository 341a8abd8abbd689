"""The search itself: Ray Tune over the trials, taken up again after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutray.config import TrainSettings, parse_settings
from pipelines.sweep.console_callback import ConsoleCallback
from pipelines.sweep.resources import DRIVER_CPUS
from pipelines.sweep.space import SearchSpace
from pipelines.sweep.trials import ROUNDS, SweepContext, remove_trial, train_trial

STATE = "tune"


def max_epochs(space: SearchSpace) -> int:
    """Return the most epochs that a training may have."""
    ends = [one.values[-1] for one in space.dimensions if one.path == "optim.epochs"]
    return int(max(ends, default=parse_settings(TrainSettings, space.base).optim.epochs))


def search(context: SweepContext, concurrent: int, callback: ConsoleCallback) -> None:
    """Run all trials, or those that an interrupted search has left; what comes of them is in ``trials.json``.

    Args:
        context: What all trials share.
        concurrent: Most trials at a time.
        callback: Told about every trial.
    """
    from ray import tune

    sweep = context.sweep
    function = train_trial if sweep.job == "train" else remove_trial
    cpus = DRIVER_CPUS if sweep.job == "train" else sweep.cpus_per_trial
    trainable = tune.with_resources(tune.with_parameters(function, context=context), {"cpu": cpus})
    state = Path(context.folder) / STATE
    if tune.Tuner.can_restore(str(state)):
        tuner = tune.Tuner.restore(str(state), trainable, resume_unfinished=True, restart_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric=sweep.metric,
                mode=sweep.mode,
                num_samples=sweep.trials,
                max_concurrent_trials=concurrent,
                search_alg=_searcher(context),
                scheduler=make_scheduler(context),
                time_budget_s=60 * sweep.max_minutes or None,
            ),
            run_config=tune.RunConfig(name=STATE, storage_path=context.folder, verbose=0, callbacks=[callback]),
        )
    tuner.fit()


def _searcher(context: SweepContext) -> Any:
    """Make the searcher; the settings as they are come first."""
    import optuna
    from optuna.samplers import RandomSampler, TPESampler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sweep = context.sweep
    first = context.space.defaults()
    sampler = RandomSampler(sweep.seed) if sweep.searcher == "random" else TPESampler(seed=sweep.seed)
    return OptunaSearch(
        context.space, sweep.metric, sweep.mode, points_to_evaluate=[first] if first else None, sampler=sampler
    )


def make_scheduler(context: SweepContext) -> Any:
    """Make the scheduler. What all are compared with, the settings as they are, is never ended early."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

    settings, first = context.sweep.scheduler, context.space.defaults()
    most = max_epochs(context.space) if context.sweep.job == "train" else 1
    # Ray Tune refuses a grace period that is longer than the longest training.
    options: dict[str, Any] = {"time_attr": ROUNDS, "grace_period": min(settings.grace_epochs, most)}
    if settings.kind == "none" or context.sweep.job == "remove":
        return FIFOScheduler()  # type: ignore[no-untyped-call]  # Ray has no types here
    if settings.kind == "asha":
        base: Any = AsyncHyperBandScheduler
        options |= {"max_t": most, "reduction_factor": settings.reduction}
    else:
        base = MedianStoppingRule

    class KeepsFirstTrial(base):  # type: ignore[misc]  # Ray has no types here
        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> Any:
            decision = super().on_trial_result(controller, trial, result)
            return TrialScheduler.CONTINUE if trial.config == first else decision

    return KeepsFirstTrial(**options)
