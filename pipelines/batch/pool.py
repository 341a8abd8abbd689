"""Sizes the pool of workers to a machine or a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutray.config import BatchSettings
from cutray.engines.hardware import usable_cores
from cutray.errors import ConfigError, EngineError
from pipelines.batch.memory import DRIVER_BYTES, RAY_BYTES, WORKER_BYTES, budget_bytes

_NO_LIMIT = 1 << 50  # bytes of a node whose memory is not told


@dataclass(frozen=True, slots=True)
class Pool:
    """How many workers there may be, what each takes, how many photos each has in work, and what it may hold.

    Attributes:
        workers: Processes that cut out.
        cpus: Processors of each.
        gpus: GPUs of each.
        photos: Photos in work at a time in each.
        memory_bytes: Memory of each.
    """

    workers: int
    cpus: float
    gpus: float
    photos: int
    memory_bytes: int

    @property
    def threads(self) -> int:
        """Threads of a worker's network, unless the settings say otherwise; each looks at a photo of its own."""
        return math.ceil(self.cpus)


def fit_pool(settings: BatchSettings, nodes: Sequence[Mapping[str, float]], reader_bytes: int = 0) -> Pool:
    """Count how many workers a cluster has room for.

    Args:
        settings: What one worker takes, and how many there may be.
        nodes: CPU and GPU of each node, and its memory in bytes.
        reader_bytes: What reading takes in each worker, beside photos.

    Raises:
        ConfigError: No node has room for one.
    """
    largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    cpus, gpus = min(settings.cpus_per_actor, max(largest, 0.01)), settings.gpus_per_actor
    by_cores = [
        int(min(node.get("CPU", 0.0) / cpus, node.get("GPU", 0.0) / gpus if gpus else float("inf"))) for node in nodes
    ]
    if not sum(by_cores):
        raise ConfigError(
            got=f"no node has {cpus:g} processors" + (f" and {gpus:g} GPUs" if gpus else ""),
            allowed=f"nodes offer {', '.join(str(node.get('CPU', 0)) for node in nodes)} processors",
            fix="lower --cpus-per-actor or --gpus-per-actor",
        )
    budgets = [budget_bytes(settings.memory_gb, int(node.get("memory", _NO_LIMIT))) for node in nodes]
    useful = [(budget, room) for budget, room in zip(budgets, by_cores, strict=True) if room]
    rooms = [_room(settings, room, budget, reader_bytes) for budget, room in useful]
    share = min(budget // room for (budget, _), room in zip(useful, rooms, strict=True))
    room = sum(rooms)
    return Pool(min(settings.actors or room, room), cpus, gpus, _photos(settings, cpus), share)


def local_pool(settings: BatchSettings, reader_bytes: int = 0, *, with_ray: bool = False) -> Pool:
    """Size the pool to the cores that this process may use, within its container's quota, and to the memory.

    Args:
        settings: What one worker takes, how many there may be, and the memory of all.
        reader_bytes: What reading takes in each worker, beside photos.
        with_ray: Whether a Ray is started here, which holds memory as well.

    Raises:
        ConfigError: The memory that is granted is too little for one worker.
    """
    cores = usable_cores()
    cpus = min(settings.cpus_per_actor, cores)
    workers = settings.actors or max(1, int(cores // cpus))
    others = DRIVER_BYTES + (RAY_BYTES if with_ray else 0)
    budget = budget_bytes(settings.memory_gb)
    workers = _room(settings, workers, budget - others, reader_bytes, others)
    share = max(budget - others, 0) // workers
    return Pool(workers, cpus, settings.gpus_per_actor, _photos(settings, cpus), share)


def _room(settings: BatchSettings, workers: int, budget: int, reader_bytes: int, others: int = 0) -> int:
    """Cut a number of workers to those that memory has room for; one that was not asked for is always tried.

    Raises:
        ConfigError: The memory that is granted is too little for one.
    """
    each = WORKER_BYTES + reader_bytes
    if settings.memory_gb and budget < each:
        pages = f", of which {reader_bytes / 1e9:.2f} GB for pages of the source" if reader_bytes else ""
        raise ConfigError(
            got=f"a memory of {settings.memory_gb:g} GB",
            allowed=f"at least {(each + others) / 1e9:.2f} GB for one worker and what it needs{pages}",
            fix="raise --memory-gb" + (", or write the source with smaller pages" if reader_bytes else ""),
        )
    return max(1, min(workers, budget // each))


def _photos(settings: BatchSettings, cpus: float) -> int:
    """Photos in work at a time: one more than processors, so that reading and writing never leave one idle."""
    return settings.photos_per_actor or math.ceil(cpus) + 1


def stopped(why: str) -> EngineError:
    """Build the error of a job whose workers cannot be kept alive, or where nothing moves any more."""
    return EngineError(got=f"the job cannot go on: {why}", fix="what is done is kept; run the same command again")
