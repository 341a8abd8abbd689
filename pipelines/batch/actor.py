"""A worker of the batch as an actor of Ray."""

from __future__ import annotations

import os
import time
from threading import Thread
from typing import Any

import pyarrow as pa

from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import SCHEMA
from pipelines.batch.pool import Pool
from pipelines.batch.storage_base import Reader
from pipelines.batch.worker import BatchWorker

_TRACKER_S = 600  # for an answer of a small actor, on a machine that has much else to do
_PARENT_CHECK_S = 5.0


class RemoverActor:
    """Does blocks of tasks. Ray gives it several at a time, in threads."""

    def __init__(self, job: BatchJob, reader: Reader, tracker: Any, pool: Pool) -> None:
        """Make the worker.

        Args:
            job: What to do.
            reader: Reads the photos.
            tracker: Handle of the actor ``CrashTracker``.
            pool: Threads of the network, and photos in work at a time.
        """
        import ray

        self._tracker = tracker
        node = ray.get_runtime_context().get_node_id()[:12]
        self._worker = BatchWorker(job, reader, _RemoteCrashLog(tracker), node, pool)
        Thread(target=_exit_with_parent, args=(os.getppid(),), name="parent", daemon=True).start()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Do a block of tasks and return their rows."""
        import ray

        tasks = block.to_pylist()
        crashes = ray.get(self._tracker.crashes.remote([task["key"] for task in tasks]), timeout=_TRACKER_S)
        return pa.Table.from_pylist([row for rows in self._worker.run(tasks, crashes) for row in rows], SCHEMA)


class _RemoteCrashLog:
    """Reaches a tracker that is an actor."""

    def __init__(self, tracker: Any) -> None:
        """Keep the handle."""
        self._tracker = tracker

    def begin(self, key: str) -> None:
        """Wait until the note is there."""
        import ray

        ray.get(self._tracker.begin.remote(key), timeout=_TRACKER_S)

    def end(self, key: str) -> None:
        """Send the note."""
        self._tracker.end.remote(key)

    def agree(self, precision: str) -> str:
        """Ask the tracker."""
        import ray

        agreed: str = ray.get(self._tracker.agree.remote(precision), timeout=_TRACKER_S)
        return agreed


def _exit_with_parent(parent: int) -> None:
    """End this process when Ray's has gone, whatever it is doing; nobody would ask for its results any more."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)
