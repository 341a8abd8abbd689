"""Sizes the pool of workers to a machine or a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutray.config import BatchSettings
from cutray.engines.hardware import usable_cores
from cutray.errors import ConfigError, EngineError


@dataclass(frozen=True, slots=True)
class Pool:
    """How many workers there may be, what each takes, and how many photos each has in work."""

    workers: int
    cpus: float
    gpus: float
    photos: int

    @property
    def threads(self) -> int:
        """Threads of a worker's network, unless the settings say otherwise; each looks at a photo of its own."""
        return math.ceil(self.cpus)


def fit_pool(settings: BatchSettings, nodes: Sequence[Mapping[str, float]]) -> Pool:
    """Count how many workers a cluster has room for.

    Args:
        settings: What one worker takes, and how many there may be.
        nodes: CPU and GPU of each node.

    Raises:
        ConfigError: No node has room for one.
    """
    largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    cpus, gpus = min(settings.cpus_per_actor, max(largest, 0.01)), settings.gpus_per_actor
    room = sum(
        int(min(node.get("CPU", 0.0) / cpus, node.get("GPU", 0.0) / gpus if gpus else float("inf"))) for node in nodes
    )
    if not room:
        raise ConfigError(
            got=f"no node has {cpus:g} processors" + (f" and {gpus:g} GPUs" if gpus else ""),
            allowed=f"nodes offer {', '.join(str(node.get('CPU', 0)) for node in nodes)} processors",
            fix="lower --cpus-per-actor or --gpus-per-actor",
        )
    return Pool(min(settings.actors or room, room), cpus, gpus, _photos(settings, cpus))


def local_pool(settings: BatchSettings) -> Pool:
    """Size the pool to the cores that this process may use, within its container's quota."""
    cores = usable_cores()
    cpus = min(settings.cpus_per_actor, cores)
    workers = settings.actors or max(1, int(cores // cpus))
    return Pool(workers, cpus, settings.gpus_per_actor, _photos(settings, cpus))


def _photos(settings: BatchSettings, cpus: float) -> int:
    """Photos in work at a time: one more than processors, so that reading and writing never leave one idle."""
    return settings.photos_per_actor or math.ceil(cpus) + 1


def stopped(why: str) -> EngineError:
    """Build the error of a job whose workers cannot be kept alive, or where nothing moves any more."""
    return EngineError(got=f"the job cannot go on: {why}", fix="what is done is kept; run the same command again")
