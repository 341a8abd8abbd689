"""Independent jobs at the same time: their order, their errors, and what helpers may not do."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial

import cv2
import pytest

from cutray.parallel import run_both, run_parallel


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Let OpenCV, and with it the helpers, use some threads."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(request.param)
    yield request.param
    cv2.setNumThreads(before)


def test_results_come_in_order(threads: int) -> None:
    """However the jobs are shared out, each result stands where its job stood."""
    jobs = [partial(pow, number, 2) for number in range(50)]
    assert run_parallel(jobs) == [number**2 for number in range(50)]
    assert run_parallel([]) == []
    assert run_both(lambda: "one", lambda: 2) == ("one", 2)


def test_first_job_stays_in_this_thread(threads: int) -> None:
    """A job that must not change threads, such as one on a GPU, is named first."""
    seen = run_parallel([threading.get_ident] * 2)
    assert seen[0] == threading.get_ident()
    assert threads > 1 or seen[1] == threading.get_ident()


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_jobs_run_at_the_same_time(threads: int) -> None:
    """Two jobs that wait for each other both end, if a second thread is allowed."""
    meeting = threading.Barrier(threads, timeout=20)
    assert sorted(run_both(meeting.wait, meeting.wait)) == [0, 1]


def test_jobs_may_run_jobs(threads: int) -> None:
    """Nobody waits for a helper that has not begun, so a full pool blocks nobody."""

    def outer(number: int) -> int:
        return sum(run_parallel([partial(pow, number, 1)] * 8))

    found: dict[int, list[int]] = {}

    def many(key: int) -> None:
        found[key] = run_parallel([partial(outer, number) for number in range(16)])

    crowd = [threading.Thread(target=many, args=(key,)) for key in range(8)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(30)
    assert found == {key: [8 * number for number in range(16)] for key in range(8)}


@pytest.mark.parametrize("bad", [0, 3])
def test_error_comes_out(threads: int, bad: int) -> None:
    """The first job's error and a later one's reach the caller, and the next call works."""

    def fail() -> int:
        raise ValueError("this job")

    jobs = [fail if number == bad else partial(abs, number) for number in range(6)]
    with pytest.raises(ValueError, match="this job"):
        run_parallel(jobs)
    assert run_parallel([partial(abs, -1)] * 3) == [1, 1, 1]


LAST_THREAD = """
import threading, time
import cv2
from cutray.parallel import run_parallel
def work():
    threading.main_thread().join()
    time.sleep(0.3)  # by now the interpreter starts no threads any more
    print(run_parallel([lambda: 1, lambda: 2, lambda: 3]))
cv2.setNumThreads(3)
threading.Thread(target=work).start()
"""


def test_last_thread_of_a_program_still_works() -> None:
    """A program whose main thread has ended finishes its photos, without helpers."""
    done = subprocess.run([sys.executable, "-c", LAST_THREAD], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[1, 2, 3]", done.stderr


def _square_in_child(results: multiprocessing.SimpleQueue[list[int]]) -> None:
    cv2.setNumThreads(3)
    results.put(run_parallel([partial(pow, number, 2) for number in range(20)]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forked_process_has_helpers_of_its_own() -> None:
    """The helpers of the parent are not in the child, which must not wait for them."""
    run_parallel([partial(abs, -1)] * 4)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_square_in_child, args=(results,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert results.get() == [number**2 for number in range(20)]
