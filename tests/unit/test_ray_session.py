"""Starting Ray for a job, and what is said when that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from cutray.errors import CutrayError  # noqa: E402
from pipelines.ray_session import ray_session  # noqa: E402


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Take back the variables that are set for Ray."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_machine_too_busy_for_ray_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own bare exception becomes an error of ours, with what to do."""

    def give_up(**_: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen because of much.")

    monkeypatch.setattr(ray, "init", give_up)
    with pytest.raises(CutrayError, match="too busy") as caught, ray_session(None, 1, 100 << 20, "batch"):
        pass
    assert "try again" in caught.value.fix


def test_other_faults_of_ray_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw keeps its trace."""

    def break_down(**_: Any) -> None:
        raise KeyError("of Ray's own")

    monkeypatch.setattr(ray, "init", break_down)
    with pytest.raises(KeyError), ray_session(None, 1, 100 << 20, "batch"):
        pass
