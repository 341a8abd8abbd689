"""The state of jobs: repeated requests, quotas, one end and one event, and webhooks that are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from cutray.config import JobSettings
from serve_apps.jobs.database import DatabaseError, make_engine
from serve_apps.jobs.records import JobState, NewJob, NewPhoto, QuotaError
from serve_apps.jobs.replies import event_body
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.tables import METADATA
from serve_apps.jobs.webhooks import pause_s, secret_of, signed_headers

POSTGRES = os.environ.get("CUTRAY_TEST_POSTGRES", "")  # address of an empty database


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobSettings]:
    """Return settings with a small quota, for each kind of database that is there."""
    if request.param == "postgresql" and not POSTGRES:
        pytest.skip("CUTRAY_TEST_POSTGRES names no database")
    database = POSTGRES if request.param == "postgresql" else ""
    made = JobSettings(folder=str(tmp_path), database=database, jobs_per_key=3, photos_per_key=10, bytes_per_key=1024)
    yield made
    if database:
        METADATA.drop_all(make_engine(made))


def new(job_id: str, owner: str = "shop", photos: int = 2, **more: Any) -> NewJob:
    names = [NewPhoto(f"{number}.jpg", f"{number}.png") for number in range(photos)]
    return NewJob(job_id, owner, names, more.pop("size_bytes", 10), {"format": "png"}, more.pop("hash", "h"), **more)


def test_a_repeated_request_is_the_same_job(settings: JobSettings) -> None:
    """The key of one owner finds its job; another owner's equal key is another job."""
    store = JobStore(settings)
    first, replayed = store.add(new("a", idempotency_key="k"))
    assert (first["state"], replayed) == (JobState.QUEUED, False)
    again, replayed = store.add(new("b", idempotency_key="k", hash="other"))
    assert (again["id"], again["request_hash"], replayed) == ("a", "h", True)
    assert store.add(new("c", "other", idempotency_key="k"))[1] is False
    assert store.get("a", "other") is None
    assert [job["id"] for job in store.list_jobs("other", 0, 10)] == ["c"]


def test_many_at_once_make_one_job(settings: JobSettings) -> None:
    """Of eight equal requests at the same moment one is written down, and a quota is never shared twice."""
    store = JobStore(settings)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(store.add(new(f"j{n}", idempotency_key="k"))[0]["id"]))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_quotas_are_kept(settings: JobSettings) -> None:
    """Jobs, photos and bytes of one key have limits; jobs that have ended count for bytes alone."""
    store = JobStore(settings)
    with pytest.raises(QuotaError, match="photos"):
        store.add(new("a", photos=11))
    with pytest.raises(QuotaError, match="bytes"):
        store.add(new("a", size_bytes=2000))
    for name in "abc":
        store.add(new(name))
    with pytest.raises(QuotaError, match="jobs"):
        store.add(new("d"))
    store.add(new("e", "other"))
    assert store.cancel("a", event_body) == JobState.CANCELLED
    cancelled = store.get("a")
    assert cancelled is not None and cancelled["bytes"] == 0  # its photos are deleted
    assert store.add(new("d"))[0]["id"] == "d"


def test_a_job_that_is_over_gives_up_its_key(settings: JobSettings) -> None:
    """A deleted job is not the answer to the same request any more: it becomes a job of its own."""
    store = JobStore(settings)
    store.add(new("a", idempotency_key="k"))
    store.cancel("a", event_body)
    store.expire("a")
    again, replayed = store.add(new("b", idempotency_key="k"))
    assert (again["id"], replayed) == ("b", False)


def test_errors_of_the_database_keep_secrets(settings: JobSettings) -> None:
    """What went into a statement, such as the token in a webhook's address, is not in its error."""
    store = JobStore(settings)
    store.add(new("a"))
    with pytest.raises(DatabaseError) as caught:
        store.add(new("a", webhook="https://hooks.example/s3cret"))
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


def test_a_job_ends_once_and_tells_once(settings: JobSettings) -> None:
    """The first end counts; there is one event, with the state and the counts of that moment."""
    store = JobStore(settings)
    store.add(new("a", webhook="https://hooks.example/"))
    assert store.start("a", "u2netp")
    assert not store.start("a", "u2net")
    row = {"number": 1, "status": "ok", "output": "000001.png", "details": {"confidence": 0.9}}
    for _ in range(2):
        store.record("a", [row])
    assert store.finish("a", JobState.FINISHED, event_body, size_bytes=77) == JobState.FINISHED
    assert store.finish("a", JobState.FAILED, event_body) is None
    assert store.cancel("a", event_body) is None
    (event,) = store.due_events()
    assert '"type":"job.finished"' in event["body"] and '"done":1' in event["body"]
    job = store.get("a")
    assert job is not None and (job["bytes"], job["model"]) == (77, "u2netp")
    store.set_event(event["id"], "waiting", 1, time.time() + 60)
    assert store.due_events() == []


def test_a_running_job_is_cancelled_by_its_runner(settings: JobSettings) -> None:
    """Until the process has ended the job is cancelling; then it is cancelled, whatever the process says."""
    store = JobStore(settings)
    store.add(new("a"))
    store.start("a", "u2netp")
    assert store.cancel("a", event_body) == JobState.CANCELLING
    assert store.cancelling() == ["a"]
    assert store.finish("a", JobState.FINISHED, event_body) == JobState.CANCELLED


def test_a_job_is_withdrawn(settings: JobSettings) -> None:
    """One that has not begun is forgotten, one that runs is stopped without anybody being told; its key is free."""
    store = JobStore(settings)
    for name in ("a", "b"):
        store.add(new(name, idempotency_key=name, webhook="https://hooks.example/"))
    store.start("b", "u2netp")
    assert store.withdraw("a") and not store.knows("a") and not store.photos("a")
    assert not store.withdraw("b") and store.cancelling() == ["b"]
    assert store.finish("b", JobState.FINISHED, event_body) == JobState.CANCELLED
    assert not store.due_events() and not store.withdraw("none")
    assert store.add(new("c", idempotency_key="a"))[1] is False


def test_who_has_less_running_goes_first(settings: JobSettings) -> None:
    """Jobs that had begun go on first; then the key with fewer running ones, then the older job."""
    store = JobStore(settings)
    for name, owner in (("a", "shop"), ("b", "shop"), ("c", "other")):
        store.add(new(name, owner))
    store.start("a", "u2netp")
    assert [job["id"] for job in store.startable()] == ["a", "c", "b"]


def test_what_is_over_is_gone(settings: JobSettings) -> None:
    """An expired job is not found, and is deleted once its event is not waiting any more."""
    store = JobStore(settings)
    store.add(new("a", webhook="https://hooks.example/"))
    store.finish("a", JobState.FAILED, event_body, error={"code": "internal", "message": "x"})
    store.expire("a")
    assert store.get("a") is None
    assert store.expired() == []
    (event,) = store.due_events()
    store.set_event(event["id"], "delivered", 1, 0)
    assert store.expired() == ["a"]
    store.delete("a")
    assert not store.knows("a")


def test_signatures_are_those_of_standard_webhooks(tmp_path: Path) -> None:
    """The secret is the key's own and stays; the signature covers id, time and body."""
    secret = secret_of(str(tmp_path), "shop")
    assert secret == secret_of(str(tmp_path), "shop") != secret_of(str(tmp_path), "other")
    assert (tmp_path / "webhook.key").stat().st_mode & 0o077 == 0
    headers = signed_headers(secret, "evt_1", b"{}", 1700000000)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = hmac.new(key, b"evt_1.1700000000.{}", hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(wanted).decode()}"


def test_pauses_grow_and_differ() -> None:
    """Each pause is up to twice the last one, at most an hour, and no two receivers are hit in step."""
    assert 0.5 <= pause_s(1) <= 1 and 4 <= pause_s(4) <= 8
    assert pause_s(40) <= 3600
    assert len({pause_s(5) for _ in range(10)}) > 5
