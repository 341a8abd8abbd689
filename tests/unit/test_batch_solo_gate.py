"""A photo under suspicion works alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

pytest.importorskip("pyarrow")

from pipelines.batch.solo_gate import SoloGate

PATIENCE_S = 100.0


def test_others_work_at_the_same_time() -> None:
    """Two that are not under suspicion meet inside."""
    gate, meeting = SoloGate(), Barrier(2)

    def work() -> None:
        with gate.shared():
            meeting.wait(PATIENCE_S)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work) for _ in range(2)]:
            future.result()


def test_suspect_waits_and_is_waited_for() -> None:
    """It begins when those at work have ended; who comes meanwhile waits until it has, also a second suspect."""
    gate, order = SoloGate(), []
    inside, may_end, asked = Event(), Event(), Event()

    def first() -> None:
        with gate.shared():
            inside.set()
            may_end.wait(PATIENCE_S)
            order.append("first")

    def suspect() -> None:
        inside.wait(PATIENCE_S)
        asked.set()
        with gate.solo():
            order.append("begins")
            Event().wait(0.05)  # long enough for the others to push in, if they could
            order.append("ends")

    def late() -> None:
        with gate.shared():
            order.append("late")

    with ThreadPoolExecutor(4) as pool:
        works = [pool.submit(first), pool.submit(suspect), pool.submit(suspect)]
        asked.wait(PATIENCE_S)
        Event().wait(0.05)
        works.append(pool.submit(late))
        may_end.set()
        for work in works:
            work.result(timeout=PATIENCE_S)
    assert order == ["first", "begins", "ends", "begins", "ends", "late"] or order == [
        "first",
        "begins",
        "ends",
        "late",
        "begins",
        "ends",
    ]


def test_error_ends_the_turn() -> None:
    """Whoever fails makes room like anybody else."""
    gate = SoloGate()
    for turn in (gate.shared, gate.solo):
        with pytest.raises(ValueError, match="photo"), turn():
            raise ValueError("photo")
    with gate.solo():
        pass
