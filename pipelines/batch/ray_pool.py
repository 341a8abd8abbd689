"""Has Ray do the work of a batch: starts or joins a cluster, and streams tasks through actors."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from cutray.config import BatchSettings
from cutray.errors import CutrayError
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import SCHEMA
from pipelines.batch.owned_files import LEFT_COLUMNS
from pipelines.batch.plan import PhotoTask, RunTasks
from pipelines.batch.pool import Pool, fit_pool, local_pool, stopped
from pipelines.batch.storage_base import Reader
from pipelines.ray_session import ray_session

_BLOCKS = 2  # that an actor has in work: the next one begins before the last photo of one is done
_LOCAL_STORE_BYTES = 256 << 20  # only names and rows travel between processes, never pixels
# Of `PhotoTask.as_row`; a table of nothing but None has no types of its own.
_TEXTS = ("key", "location", "hints", "name", "output", "known_sha256", "known_output_sha256")
_NUMBERS = ("size_bytes", "modified_ns")
_TASK_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [(name, pa.int64()) for name in _NUMBERS]
    + [SCHEMA.field(name) for name in LEFT_COLUMNS]
)


@contextmanager
def ray_workers(job: BatchJob, reader: Reader, held_bytes: int = 0) -> Iterator[RunTasks]:
    """Have a Ray cluster for the length of a job; yields what runs tasks on it.

    Args:
        job: For the actors.
        reader: Reads the photos.
        held_bytes: What reading takes in each actor, beside photos.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The cluster cannot be reached, or has no node that an actor fits on, or memory is too little.
    """
    settings = job.batch_settings
    here = local_pool(settings, held_bytes, with_ray=True) if settings.address is None else None
    # Room for the actors and two more, so that nothing can wait for itself.
    num_cpus = math.ceil(here.workers * here.cpus) + 2 if here else 0
    with ray_session(settings.address, num_cpus, _LOCAL_STORE_BYTES, "batch"):
        import ray

        _quiet(settings)
        alive: Callable[[], list[dict[str, Any]]] = ray.nodes
        nodes = [node["Resources"] for node in alive() if node["Alive"]]
        pool = here or fit_pool(settings, nodes, held_bytes)
        yield partial(_run_tasks, pool=pool, job=job, reader=reader)


def _quiet(settings: BatchSettings) -> None:
    """Leave the terminal to the job's own progress, and never wait for ever."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = int(settings.no_progress_timeout_s)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _run_tasks(
    blocks: Sequence[Sequence[PhotoTask]], pool: Pool, job: BatchJob, reader: Reader
) -> Iterator[list[dict[str, Any]]]:
    """Stream tasks through actors and yield rows as they come, in no particular order.

    Args:
        blocks: What to do; each block is handed out, and reported back, as one.
        pool: How many actors there may be, and what each takes.
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
    actors = min(pool.workers, len(blocks))
    rows = ray.data.from_arrow(
        [pa.Table.from_pylist([task.as_row() for task in tasks], _TASK_SCHEMA) for tasks in blocks]
    ).map_batches(
        RemoverActor,
        fn_constructor_args=(job, reader, tracker, pool),
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
        raise stopped(f"{type(error).__name__}: {lines[-1] if lines else ''}") from error
