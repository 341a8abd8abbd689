"""How many actors fit, and who is blamed for a crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutray.config import BatchSettings
from cutray.engines.hardware import usable_cores
from cutray.errors import ConfigError

pytest.importorskip("pyarrow")

from pipelines.batch.crash_tracker import CrashTracker
from pipelines.batch.memory import DRIVER_BYTES, RAY_BYTES, WORKER_BYTES
from pipelines.batch.pool import Pool, fit_pool, local_pool


def test_pool_fills_the_nodes() -> None:
    """Every node takes as many actors as have room on it, and small nodes get smaller actors."""
    settings = BatchSettings()
    memory = 16e9
    nodes = [{"CPU": 16.0, "memory": memory}, {"CPU": 6.0, "memory": memory}, {"CPU": 2.0, "memory": 1.0}]
    assert fit_pool(settings, nodes) == Pool(5, 4.0, 0.0, 5, 2_000_000_000)
    assert fit_pool(settings, [{"CPU": 2.0, "memory": memory}]) == Pool(1, 2.0, 0.0, 3, 8_000_000_000)


def test_pool_stays_within_the_memory() -> None:
    """Workers are as many as have room, by what pages of the source take too; less than one needs is an error."""
    node = {"CPU": 64.0, "memory": 1e12}
    assert fit_pool(BatchSettings(memory_gb=4), [node]).workers == 4_000_000_000 // WORKER_BYTES
    assert fit_pool(BatchSettings(memory_gb=4), [node], reader_bytes=WORKER_BYTES) == Pool(2, 4, 0, 5, 2_000_000_000)
    assert fit_pool(BatchSettings(), [{"CPU": 64.0, "memory": 1e9}]).workers == 1
    with pytest.raises(ConfigError, match=r"at least 1.01 GB .* Raise --memory-gb"):
        local_pool(BatchSettings(memory_gb=0.5))
    with pytest.raises(ConfigError, match="smaller pages"):
        local_pool(BatchSettings(memory_gb=1.2), reader_bytes=1 << 30)
    few = local_pool(BatchSettings(actors=8, memory_gb=2))
    assert few.workers == (2_000_000_000 - DRIVER_BYTES) // WORKER_BYTES
    assert few.workers * few.memory_bytes + DRIVER_BYTES <= 2_000_000_000
    with_ray = local_pool(BatchSettings(actors=8, memory_gb=2.5), with_ray=True)
    assert with_ray.workers * with_ray.memory_bytes + DRIVER_BYTES + RAY_BYTES <= 2_500_000_000


def test_pool_counts_gpus() -> None:
    """With shares of a GPU, nodes without one are left out."""
    settings = BatchSettings(gpus_per_actor=0.5)
    assert fit_pool(settings, [{"CPU": 32.0, "GPU": 2.0}, {"CPU": 32.0}]).workers == 4
    with pytest.raises(ConfigError, match="GPU"):
        fit_pool(settings, [{"CPU": 32.0}])


def test_never_more_actors_than_fit() -> None:
    """A wish for more actors than there is room for cannot stop the job."""
    assert fit_pool(BatchSettings(actors=9), [{"CPU": 8.0}]).workers == 2
    assert fit_pool(BatchSettings(actors=1), [{"CPU": 8.0}]).workers == 1


def test_first_number_format_counts() -> None:
    """Whoever says its own first decides, and all others learn it."""
    tracker = CrashTracker()
    assert [tracker.agree("int8"), tracker.agree("bf16")] == ["int8", "int8"]


def test_only_unfinished_photos_are_suspects() -> None:
    """What was begun and ended is innocent; what was begun twice and never ended counts twice."""
    tracker = CrashTracker()
    for key in ("good", "bad", "bad"):
        tracker.begin(key)
    tracker.end("good")
    assert tracker.crashes(["good", "bad", "new"]) == {"bad": 2}


def test_a_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container of two processors on a host of 64, one actor with two processors is started, not sixteen."""
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("200000 100000\n")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(usable_cores, "__defaults__", (tmp_path,))
    pool = local_pool(BatchSettings())
    assert (pool.workers, pool.cpus, pool.photos) == (1, 2, 3)
