"""Has processes of this machine do the work of a batch, where no cluster is asked for: a Ray takes longer to start.

A process that dies is replaced, and what it had in work is done again. One that has lost this process ends itself.
"""

from __future__ import annotations

import contextlib
import pickle
import platform
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

from pipelines.batch.crash_tracker import CrashTracker
from pipelines.batch.job import BatchJob
from pipelines.batch.plan import PhotoTask, RunTasks
from pipelines.batch.pool import Pool, local_pool, stopped
from pipelines.batch.storage_base import Reader
from pipelines.batch.worker_start import end_worker, start_worker

# Tasks that are handed out as one, by their keys, as long as their rows have not come back.
_Block = dict[str, dict[str, Any]]
_BLOCKS = 2  # that a process has in work: the next one begins before the last photo of one is done
_DEATHS = 3  # that no photo is to blame for, without a row in between: nothing would be gained by another process


@contextmanager
def local_workers(
    job: BatchJob, reader: Reader, held_bytes: int = 0, early: subprocess.Popen[bytes] | None = None
) -> Iterator[RunTasks]:
    """Yield what runs tasks in processes of this machine; they have ended when the block does.

    Args:
        job: For the processes.
        reader: Reads the photos.
        held_bytes: What reading takes in each process, beside photos.
        early: The first process, if it was started already.

    Raises:
        ConfigError: The memory that is granted is too little.
    """
    processes: list[_Process] = []
    pool = local_pool(job.batch_settings, held_bytes)
    try:
        yield partial(_run_tasks, processes=processes, pool=pool, job=job, reader=reader, early=early)
    finally:
        for process in processes:
            process.kill()


@dataclass(slots=True)
class _Process:
    """One process, and what it has to do.

    Attributes:
        popen: The process.
        receiver: Passes on what it says; nobody else reads its pipe, or closes it.
        blocks: Its blocks by their numbers.
        in_work: Photos that it has begun and not ended.
    """

    popen: subprocess.Popen[bytes]
    receiver: Thread = field(init=False)
    blocks: dict[int, _Block] = field(default_factory=dict)
    in_work: set[str] = field(default_factory=set)

    @classmethod
    def start(
        cls,
        pool: Pool,
        job: BatchJob,
        reader: Reader,
        answers: SimpleQueue[tuple[_Process, Any]],
        popen: subprocess.Popen[bytes] | None = None,
    ) -> _Process:
        """Give the job to a process, to a new one by default; its messages, and at its end None, come by a queue."""
        process = cls(popen or start_worker(job.settings.device))
        process.send((job, reader, platform.node(), pool))
        process.receiver = Thread(
            target=_receive, args=(process, process.popen.stdout, answers), name="answers", daemon=True
        )
        process.receiver.start()
        return process

    def send(self, message: Any) -> None:
        """Send a message; whoever has died is noticed when it is read from."""
        assert self.popen.stdin is not None  # for the type checker
        with contextlib.suppress(OSError):
            pickle.dump(message, self.popen.stdin)
            self.popen.stdin.flush()

    def kill(self) -> None:
        """End it, whatever it is doing, and wait until it has gone and all that it said has been passed on."""
        self.popen.kill()
        self.receiver.join()  # a pipe that is closed while it is read raises anything
        end_worker(self.popen)


def _receive(process: _Process, pipe: BinaryIO, answers: SimpleQueue[tuple[_Process, Any]]) -> None:
    """Pass on what a process says, until it ends."""
    try:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError), pipe:
            while True:
                answers.put((process, pickle.load(pipe)))  # noqa: S301, from a process that was started here
    finally:
        answers.put((process, None))


def _run_tasks(
    blocks: Sequence[Sequence[PhotoTask]],
    *,
    processes: list[_Process],
    pool: Pool,
    job: BatchJob,
    reader: Reader,
    early: subprocess.Popen[bytes] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Hand out tasks and yield rows as they come, in no particular order.

    Args:
        blocks: What to do; a shard is reported back as one, photos that have files of their own one by one.
        processes: Those that run; whoever started this ends them.
        pool: How many there may be, and what each takes.
        job: For the processes.
        reader: Reads the photos.
        early: The first process, if it was started already.

    Raises:
        EngineError: The processes cannot be kept alive, or nothing moves any more.
    """
    tracker = CrashTracker()
    answers: SimpleQueue[tuple[_Process, Any]] = SimpleQueue()
    waiting = deque(enumerate({task.photo.key: task.as_row() for task in tasks} for tasks in blocks))
    start = partial(_Process.start, pool, job, reader, answers)
    processes += [start(early if n == 0 else None) for n in range(min(pool.workers, len(blocks)))]
    deaths = 0
    while waiting or any(process.blocks for process in processes):
        # Each process gets a block before any gets a second one.
        for depth in range(_BLOCKS):
            for process in [one for one in processes if len(one.blocks) == depth][: len(waiting)]:
                number, block = waiting.popleft()
                process.blocks[number] = block
                process.send((number, list(block.values()), tracker.crashes(list(block))))
        try:
            process, message = answers.get(timeout=job.batch_settings.no_progress_timeout_s)
        except Empty:
            raise stopped(f"nothing happened for {job.batch_settings.no_progress_timeout_s:g} s") from None
        match message:
            case None:
                process.kill()
                deaths += not process.in_work
                if deaths >= _DEATHS:
                    code = process.popen.returncode
                    raise stopped(f"a process ended {deaths} times with no photo in work, at last with code {code}")
                waiting.extendleft(process.blocks.items())
                processes[processes.index(process)] = start()
            case "begin", key:
                tracker.begin(key)
                process.in_work.add(key)
            case "end", key:
                tracker.end(key)
                process.in_work.discard(key)
            case "rows", number, rows:
                deaths = 0
                for row in rows:
                    del process.blocks[number][row["source"]]
                if not process.blocks[number]:
                    del process.blocks[number]
                yield rows
