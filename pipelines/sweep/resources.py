"""How much a trial takes, and how many of them fit. Ray is imported late: it reads its settings when it is."""

from __future__ import annotations

import math

from cutray.config import SweepSettings, TrainSettings, parse_settings
from cutray.engines.hardware import usable_cores
from pipelines.ray_session import room_for
from pipelines.sweep.space import SearchSpace

DRIVER_CPUS = 0.1  # a trial that trains only waits for its workers


def resources_of(sweep: SweepSettings, space: SearchSpace) -> tuple[float, float]:
    """Return the processors and GPUs that one trial takes at most, whatever values it is given."""
    if sweep.job == "remove":
        return sweep.cpus_per_trial, 0.0
    from cutray.training.runs import cpus_needed

    ends = [{}, *({one.path: value} for one in space.dimensions for value in one.values)]
    settings = [parse_settings(TrainSettings, space.settings(chosen)) for chosen in ends]
    gpus = max(one.workers * one.gpus_per_worker for one in settings)
    return DRIVER_CPUS + max(cpus_needed(one) for one in settings), gpus


def concurrent_locally(sweep: SweepSettings, space: SearchSpace) -> int:
    """Return how many trials this machine runs at a time."""
    if sweep.concurrent or sweep.job == "remove":
        return sweep.concurrent or max(1, int(usable_cores() // sweep.cpus_per_trial))
    settings = parse_settings(TrainSettings, space.base)
    threads = settings.workers * (settings.threads_per_worker or math.ceil(settings.cpus_per_worker))
    return max(1, usable_cores() // threads)


def concurrent_on_cluster(sweep: SweepSettings, space: SearchSpace) -> int:
    """Return how many trials fit on the cluster that this process is connected to.

    Raises:
        ConfigError: Not even one does.
    """
    fit = room_for(*resources_of(sweep, space))
    return min(fit, sweep.concurrent) if sweep.concurrent else fit
