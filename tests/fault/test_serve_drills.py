"""The endpoint as it is shipped, through overload, lost processes, swaps and its own end, minutes long."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.conftest import require_weights

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from pipelines.bench.load import LoadStats, form, run_load  # noqa: E402
from pipelines.bench.memory import memory_of_tree  # noqa: E402
from pipelines.bench.photos import photos_of_size  # noqa: E402
from tests.drills import Drill, load_beside, p99_s  # noqa: E402
from tests.endpoint import Process, replicas, running, write_config  # noqa: E402

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]
SECONDS = float(os.environ.get("CUTRAY_DRILL_SECONDS", "60"))  # of overload; three times as long for lost processes
TIMES_TOO_MANY = 10
FULL_QUEUE = 16  # max_in_flight of the YAML
Body = tuple[str, bytes]
Endpoint = tuple[str, Process, Path]


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[Body]:
    """Return photos of half a megapixel as forms, for one pass of the network."""
    paths = photos_of_size(None, 0.5, tmp_path_factory.mktemp("photos"))
    return [form(path.read_bytes(), "image", {"quality": "fast"}) for path in paths]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Run the endpoint as it is shipped."""
    require_weights("u2net")
    require_weights("u2netp")
    config = write_config(tmp_path_factory.mktemp("serve") / "serve.yaml")
    with running(config, "--offline") as (url, process):
        yield f"{url}/remove-background", process, config


@pytest.fixture(scope="module")
def usual(endpoint: Endpoint, bodies: list[Body]) -> LoadStats:
    """Measure it while it is left alone, at half of what it can do."""
    url, process, _ = endpoint
    run_load(url, bodies, concurrency=4, rate=0, seconds=8)  # the second replicas come up meanwhile
    busiest = run_load(url, bodies, concurrency=4, rate=0, seconds=max(5, SECONDS / 6))
    rate = len(busiest.done_s) / busiest.elapsed_s / 2
    return run_load(url, bodies, concurrency=16, rate=rate, seconds=max(5, SECONDS / 3), pid=process.pid)


def _per_s(stats: LoadStats) -> float:
    return len(stats.done_s) / stats.elapsed_s


def test_overload_slows_nobody_who_is_let_in(endpoint: Endpoint, bodies: list[Body], usual: LoadStats) -> None:
    """Ten times too many: those let in wait at most twice as long as in a full queue, the others hear so at once."""
    url, process, _ = endpoint
    full = run_load(url, bodies, concurrency=FULL_QUEUE, rate=0, seconds=SECONDS / 2)
    before = memory_of_tree(process.pid)
    rate = TIMES_TOO_MANY * _per_s(full)
    stats = run_load(url, bodies, concurrency=256, rate=rate, seconds=SECONDS)
    recovery_s = _seconds_until_usual(url, bodies, 1.5 * p99_s(usual.done_s))
    # Once more for the memory: to look at it holds up the processes that are looked at.
    most = run_load(url, bodies, concurrency=256, rate=rate, seconds=SECONDS / 2, pid=process.pid).peak_bytes
    many = len(stats.done_s) + len(stats.refused_s) + sum(stats.failed.values())
    Drill(
        "overload, ten times what it can do",
        many,
        sum(stats.failed.values()),
        p99_s(full.done_s),
        p99_s(stats.done_s),
        recovery_s,
        (before, most),
        f" ({rate:.0f} photos/s, {SECONDS:.0f} s)",
    ).record()
    refused_p99_s = p99_s(stats.refused_s)
    Drill("… refused of these: 429 with Retry-After", len(stats.refused_s), 0, None, refused_p99_s).record()
    assert stats.failed == {}
    assert p99_s(stats.done_s) <= 2 * p99_s(full.done_s)
    assert len(stats.refused_s) > len(stats.done_s)
    assert refused_p99_s <= 0.2
    assert most - before < 300 << 20
    assert recovery_s <= 10


def _seconds_until_usual(url: str, bodies: list[Body], limit_s: float) -> float:
    """Return how long it takes until one photo alone is as fast as it should be."""
    started = time.perf_counter()
    while time.perf_counter() - started < 60:
        alone = run_load(url, bodies, concurrency=1, rate=0, seconds=0.01)
        if alone.done_s and max(alone.done_s) <= limit_s:
            break
    return time.perf_counter() - started


def test_killed_processes_cost_no_request(endpoint: Endpoint, bodies: list[Body], usual: LoadStats) -> None:
    """A Segmenter or a Cutter is killed every 20 s under a steady load: every request gets its result."""
    url, process, _ = endpoint
    chance, killed = random.Random(0), []
    before = memory_of_tree(process.pid)
    with load_beside(url, bodies, rate=_per_s(usual), seconds=3 * SECONDS, pid=process.pid) as load:
        until = time.monotonic() + 3 * SECONDS - 10
        for number in range(1000):
            time.sleep(min(20, SECONDS / 3) - (5 if number == 0 else 0))
            if time.monotonic() > until:
                break
            name = ("Segmenter", "Cutter")[number % 2]
            os.kill(chance.choice(replicas(process, name)), signal.SIGKILL)
            killed.append(name)
        stats = load.result()
    assert len(killed) >= 2
    detail = f" ({len(killed)} times in {3 * SECONDS:.0f} s)"
    _nothing_lost("kill -9 of a Segmenter or a Cutter every 20 s", detail, stats, usual, before)


def test_swaps_cost_no_request(endpoint: Endpoint, bodies: list[Body], usual: LoadStats) -> None:
    """The model is swapped again and again under a steady load: every request gets its result."""
    url, process, config = endpoint
    plan = yaml.safe_load(config.read_text())
    network = next(entry for entry in plan["applications"][0]["deployments"] if entry["name"] == "Segmenter")
    before, swaps = memory_of_tree(process.pid), 0
    with load_beside(url, bodies, rate=_per_s(usual), seconds=SECONDS, pid=process.pid) as load:
        until = time.monotonic() + SECONDS - 5
        while time.monotonic() < until:
            network["user_config"] = {"model": "u2netp" if network["user_config"]["model"] == "u2net" else "u2net"}
            config.write_text(yaml.safe_dump(plan))
            process.send_signal(signal.SIGHUP)
            swaps += 1
            time.sleep(min(10, SECONDS / 3))
        stats = load.result()
    detail = f" ({swaps} times in {SECONDS:.0f} s)"
    _nothing_lost("another model, swapped in place", detail, stats, usual, before)


def _nothing_lost(fault: str, detail: str, stats: LoadStats, usual: LoadStats, before_bytes: int) -> None:
    """Record what a steady load went through, and demand that each request got its result."""
    failed = len(stats.refused_s) + sum(stats.failed.values())
    Drill(
        fault,
        len(stats.done_s) + failed,
        failed,
        p99_s(usual.done_s),
        p99_s(stats.done_s),
        max(stats.done_s),
        (before_bytes, stats.peak_bytes),
        detail,
    ).record()
    assert failed == 0, (stats.failed, len(stats.refused_s))


def test_end_lets_photos_finish(endpoint: Endpoint, bodies: list[Body], usual: LoadStats) -> None:
    """SIGTERM with a full queue: all that were let in get their results, and the program ends well."""
    url, process, _ = endpoint
    with ThreadPoolExecutor(FULL_QUEUE) as pool:
        asked = [pool.submit(run_load, url, [body], concurrency=1, rate=0, seconds=0.01) for body in bodies * 4]
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        started = time.perf_counter()
        tallies = [future.result() for future in asked]
    code = process.wait(90)
    failed = sum(len(stats.refused_s) + sum(stats.failed.values()) for stats in tallies)
    done_s = [spent for stats in tallies for spent in stats.done_s]
    Drill(
        "SIGTERM with a full queue",
        len(tallies),
        failed,
        p99_s(usual.done_s),
        p99_s(done_s),
        time.perf_counter() - started,
    ).record()
    assert (code, failed) == (0, 0)
