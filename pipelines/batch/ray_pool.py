"""Ray: starts or joins a cluster, sizes the pool of actors to it, and streams tasks through them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cutray.config import BatchSettings
from cutray.engines.hardware import usable_cores
from cutray.errors import ConfigError, CutrayError, EngineError
from pipelines.batch.job import BatchJob
from pipelines.batch.plan import PhotoTask
from pipelines.batch.storage_base import Reader
from pipelines.ray_session import ray_session

_BLOCKS = 2  # that an actor has in work: the next one begins before the last photo of one is done
_LOCAL_STORE_BYTES = 256 << 20  # only names and rows travel between processes, never pixels


@dataclass(frozen=True, slots=True)
class Pool:
    """How many actors there may be, what each takes, and how many photos each has in work."""

    actors: int
    cpus: float
    gpus: float
    photos: int


@contextmanager
def ray_cluster(settings: BatchSettings) -> Iterator[Pool]:
    """Have a Ray cluster for the length of a job; yields the pool that fits it.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The cluster cannot be reached, or has no node that an actor fits on.
    """
    here = local_pool(settings)
    # Room for the actors and two more, so that nothing can wait for itself.
    num_cpus = math.ceil(here.actors * here.cpus) + 2
    with ray_session(settings.address, num_cpus, _LOCAL_STORE_BYTES, "batch"):
        import ray

        _quiet(settings)
        alive: Callable[[], list[dict[str, Any]]] = ray.nodes
        nodes = [node["Resources"] for node in alive() if node["Alive"]]
        yield here if settings.address is None else fit_pool(settings, nodes)


def fit_pool(settings: BatchSettings, nodes: Sequence[Mapping[str, float]]) -> Pool:
    """Count how many actors a cluster has room for.

    Args:
        settings: What one actor takes, and how many there may be.
        nodes: CPU and GPU of each node.

    Raises:
        ConfigError: No node has room for one actor.
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
    actors = settings.actors or max(1, int(cores // cpus))
    return Pool(actors, cpus, settings.gpus_per_actor, _photos(settings, cpus))


def _photos(settings: BatchSettings, cpus: float) -> int:
    """Photos in work at a time: one more than processors, so that reading and writing never leave one idle."""
    return settings.photos_per_actor or math.ceil(cpus) + 1


def _quiet(settings: BatchSettings) -> None:
    """Leave the terminal to the job's own progress, and never wait for ever."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = int(settings.no_progress_timeout_s)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def run_tasks(
    blocks: Sequence[Sequence[PhotoTask]], pool: Pool, job: BatchJob, reader: Reader
) -> Iterator[list[dict[str, Any]]]:
    """Stream tasks through the pool and yield rows as they come, in no particular order.

    Args:
        blocks: What to do; each block is handed out, and reported back, as one.
        pool: Who does it.
        job: For the actors.
        reader: Reads the photos.

    Raises:
        EngineError: The actors cannot be kept alive, or nothing moves any more.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pipelines.batch.actor import RemoverActor
    from pipelines.batch.crash_tracker import CrashTracker

    # The job depends on it: it must not lie on a host that may be lost while this process goes on.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tracker = ray.remote(CrashTracker).options(num_cpus=0, scheduling_strategy=here).remote()
    actors = min(pool.actors, len(blocks))
    rows = ray.data.from_arrow([_block(tasks) for tasks in blocks]).map_batches(
        RemoverActor,
        fn_constructor_args=(job, reader, tracker, math.ceil(pool.cpus), pool.photos),
        # One is enough to go on with, wherever room was counted that is not there.
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=actors,
            initial_size=actors,
            max_concurrent_calls_per_actor=_BLOCKS,
            max_tasks_in_flight_per_actor=2 * _BLOCKS,
            enable_true_multi_threading=True,
        ),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )
    try:
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            rows_here: list[dict[str, Any]] = table.to_pylist()  # type: ignore[union-attr]
            yield rows_here
    except CutrayError:
        raise
    except (RayError, TimeoutError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        raise EngineError(
            got=f"the job cannot go on: {type(error).__name__}: {lines[-1] if lines else ''}",
            fix="what is done is kept; run the same command again",
        ) from error


def _block(tasks: Sequence[PhotoTask]) -> pa.Table:
    """Bring tasks into the form in which they travel."""
    columns = {
        "key": [task.photo.key for task in tasks],
        "location": [task.photo.location for task in tasks],
        "hints": [task.photo.hints for task in tasks],
        "size_bytes": [task.photo.size_bytes for task in tasks],
        "name": [task.photo.name for task in tasks],
        "modified_ns": [task.photo.modified_ns for task in tasks],
        "output": [task.output for task in tasks],
        "known_sha256": pa.array([task.known_sha256 for task in tasks], pa.string()),
        "known_output_sha256": pa.array([task.known_output_sha256 for task in tasks], pa.string()),
    }
    return pa.table(columns)
