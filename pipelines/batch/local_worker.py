"""The process that ``local_workers`` starts: takes blocks of tasks from its standard input, and answers with rows."""

from __future__ import annotations

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, BinaryIO

from pipelines.batch.worker import BatchWorker


class _PipedCrashLog:
    """Tells the process that started this one; what is in the pipe arrives, whatever becomes of this process."""

    def __init__(self, answers: _Answers) -> None:
        """Keep the pipe."""
        self._answers = answers

    def begin(self, key: str) -> None:
        """Send the note."""
        self._answers.send(("begin", key))

    def end(self, key: str) -> None:
        """Send the note."""
        self._answers.send(("end", key))

    def agree(self, precision: str) -> str:
        """Agree with everything: all processes of one machine choose alike."""
        return precision


class _Answers:
    """The way back, for all threads."""

    def __init__(self, pipe: BinaryIO) -> None:
        """Keep the pipe."""
        self._pipe = pipe
        self._turn = Lock()

    def send(self, message: Any) -> None:
        """Send a message whole."""
        with self._turn:
            pickle.dump(message, self._pipe)
            self._pipe.flush()


def main() -> None:
    """Work until the standard input ends, which it does when the process that started this one has gone."""
    answers = _Answers(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get in between
    orders = sys.stdin.buffer
    try:
        job, reader, node, pool = pickle.load(orders)  # noqa: S301, from the process that started this one
    except (EOFError, pickle.UnpicklingError):  # there was nothing to do, or the other end has gone
        os._exit(0)
    worker = BatchWorker(job, reader, _PipedCrashLog(answers), node, pool)

    def work(number: int, tasks: list[dict[str, Any]], crashes: dict[str, int]) -> None:
        try:
            for rows in worker.run(tasks, crashes):
                answers.send(("rows", number, rows))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)  # the block would never be done

    threads = ThreadPoolExecutor(thread_name_prefix="block")
    try:
        while True:
            threads.submit(work, *pickle.load(orders))  # noqa: S301, from the process that started this one
    except (EOFError, pickle.UnpicklingError):  # the other end has gone, perhaps in the middle of a word
        os._exit(0)
