"""A job of a few hundred photos whose processes are killed at random moments: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.batches import write_photos
from tests.conftest import require_weights
from tests.job_receiver import receiving

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from tests.endpoint import PATIENCE_S, Process, running, write_config  # noqa: E402

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]
PHOTOS = int(os.environ.get("CUTRAY_JOB_PHOTOS", "300"))
# What is killed in turn: words of the process's command line; the last one is everything, Ray's own processes too.
VICTIMS = ("Ingress", "jobs.worker", "MapWorker", "JobRunner", "raylet", "everything")
ROUNDS = int(os.environ.get("CUTRAY_FAULT_ROUNDS", "6"))


def kill(process: Process, victim: str) -> int:
    """Kill what belongs to an endpoint, by its kind; returns how many processes that were."""
    killed = 0
    for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        with contextlib.suppress(psutil.Error):
            named = victim in " ".join(child.cmdline()) or (victim == "raylet" and child.name() == "raylet")
            if victim == "everything" or named:
                child.kill()
                killed += 1
    return killed


def state_of(url: str, job_id: str) -> dict[str, Any]:
    """Ask for a job's state until there is an answer; an Ingress that is lost comes back."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{url}/jobs/{job_id}?limit=1", timeout=10)
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
        time.sleep(0.3)
    raise AssertionError("nobody answers")


def rows_of(url: str, job_id: str) -> list[dict[str, Any]]:
    """Ask for the results of all photos, page by page."""
    rows: list[dict[str, Any]] = []
    path: str | None = f"/jobs/{job_id}?limit=1000"
    while path:
        page = httpx.get(f"{url}{path}", timeout=PATIENCE_S).json()
        rows, path = [*rows, *page["results"]], page["next"]
    return rows


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Ingress, worker, batch actor, runner, raylet and everything in turn: each photo once, one event."""
    require_weights("u2netp")
    chance, kills, started = random.Random(0), [], time.monotonic()
    names = write_photos(tmp_path / "photos", PHOTOS)
    files = [
        ("images", (f"{n:04d}-{Path(name).name}", (tmp_path / "photos" / name).read_bytes()))
        for n, name in enumerate(names)
    ]
    job_id, victims = "", [VICTIMS[number % len(VICTIMS)] for number in range(ROUNDS)]
    with receiving() as receiver:
        receiver.failures = 2
        jobs = {"folder": str(tmp_path / "state"), "webhooks": [f"{receiver.url}/"], "private_addresses": True}
        config = write_config(tmp_path / "serve.yaml", jobs=jobs)
        finished: dict[str, Any] = {}
        rows: list[dict[str, Any]] = []
        while not finished:
            with running(config, "-m", "u2netp", "--offline") as (url, process):
                if not job_id:
                    data = {"quality": "fast", "webhook": f"{receiver.url}/hook"}
                    sent = httpx.post(f"{url}/jobs", files=files, data=data, timeout=120)
                    assert sent.status_code == 202, sent.text
                    job_id = sent.json()["job_id"]
                while not finished:
                    step = PHOTOS // (ROUNDS + 1)
                    status = state_of(url, job_id)
                    if status["state"] != "running" and status["state"] != "queued":
                        finished, rows = status, rows_of(url, job_id)
                    elif victims and status["done"] >= step * len(kills) + chance.randrange(1, step):
                        victim = victims.pop(0)
                        kills.append((victim, status["done"], kill(process, victim)))
                        if victim in ("raylet", "everything"):
                            kill(process, "everything")
                            break
                    time.sleep(0.2)
                else:
                    until = time.monotonic() + PATIENCE_S
                    while not receiver.events and time.monotonic() < until:
                        time.sleep(0.2)
        seconds = time.monotonic() - started
    results = sorted((tmp_path / "state" / "jobs" / job_id / "results").glob("*.png"))
    twice = len(rows) - len({row["number"] for row in rows}) + len(results) - len({row["file"] for row in rows})
    lost = PHOTOS - sum(row["status"] == "ok" for row in rows)
    print(
        f"\n{PHOTOS} photos, killed (what, photos done then, processes): {kills}; {lost} lost, {twice} twice, "
        f"{len(receiver.events)} event by id in {len(receiver.tries)} tries, {seconds:.0f} s"
    )
    assert finished["state"] == "finished", finished
    assert len(kills) == ROUNDS and all(number for _, _, number in kills)
    assert (lost, twice, len(rows)) == (0, 0, PHOTOS)
    assert len(receiver.events) == 1 and set(receiver.tries) == set(receiver.events)
    assert json.loads(next(iter(receiver.events.values())))["job"]["done"] == PHOTOS
