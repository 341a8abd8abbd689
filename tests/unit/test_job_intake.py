"""What a request for a job may be, before any photo of it is worked on."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")

from cutray.config import JobSettings  # noqa: E402
from serve_apps.jobs import intake, routes  # noqa: E402
from serve_apps.jobs.spool import Spool  # noqa: E402
from serve_apps.jobs.store import JobStore  # noqa: E402
from serve_apps.remover.api import create_api  # noqa: E402
from serve_apps.remover.schemas import AppArgs  # noqa: E402
from serve_apps.remover.service import Service  # noqa: E402
from tests.pictures import photo, saved  # noqa: E402
from tests.unit.test_job_database import written_by_another  # noqa: E402

MIB = 1 << 20


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Return the state of an Ingress that takes small jobs."""
    return with_jobs(tmp_path, jobs_per_key=1)


def with_jobs(folder: Path, **limits: Any) -> Service:
    """Return the state of an Ingress that takes jobs of 40 photos."""
    jobs = JobSettings(folder=str(folder), max_photos=40, sources=("https://cdn.example/",), **limits)
    return Service(None, {}, AppArgs(jobs=jobs))


def call(service: Service, method: str, path: str, **options: Any) -> Any:
    """Send one request straight to the application."""

    async def send() -> Any:
        transport = httpx.ASGITransport(create_api(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def send_json(service: Service, data: bytes) -> tuple[int, str]:
    """Send JSON; returns status and code of the answer."""
    answer = call(service, "POST", "/jobs", content=data, headers={"Content-Type": "application/json"})
    return answer.status_code, answer.json()["code"]


def test_json_that_is_large_in_memory_is_refused_unread(service: Service) -> None:
    """A list of lists, a long text and thousands of unknown names are each refused in a moment."""
    began = time.monotonic()
    assert send_json(service, b'{"sources":[' + b"[]," * 20_000 + b"[]]}") == (400, "bad_request")
    assert send_json(service, b'{"sources":["' + b"a" * (1 << 20) + b'"]}') == (413, "body_too_large")
    names = {f"unknown{number}": 1 for number in range(5_000)}
    assert send_json(service, json.dumps({"sources": ["https://cdn.example/a"], **names}).encode()) == (
        400,
        "bad_request",
    )
    assert time.monotonic() - began < 2


def test_json_of_addresses_is_a_job(service: Service) -> None:
    """As many addresses as a job may have, also with brackets in them, are taken."""
    sources = [f"https://cdn.example/{number}?size[]=1&size[]=2" for number in range(40)]
    answer = call(service, "POST", "/jobs", json={"sources": sources, "only_mask": True})
    assert (answer.status_code, answer.json()["photos"]) == (202, 40)


def left_over(folder: Path) -> list[str]:
    """Return the jobs that are written down, and the folders of jobs."""
    rows = JobStore(JobSettings(folder=str(folder))).list_jobs("-", 0, 100)
    root = Spool.of(str(folder), "x").folder.parent
    return [job["id"] for job in rows] + [path.name for path in root.glob("*")]


class _Chunks:
    """A body of 64 chunks of a megabyte; counts how many were asked for."""

    def __init__(self, first: bytes) -> None:
        self.first, self.taken = first, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(64):
            self.taken += 1
            yield self.first.ljust(MIB, b"x") if number == 0 else bytes(MIB)


@pytest.mark.parametrize("declared", [True, False])
def test_bytes_beyond_the_quota_are_not_received(tmp_path: Path, declared: bool) -> None:
    """A body whose length says that it is too much is refused unread; one that does not say, once it is too much."""
    service, body = with_jobs(tmp_path, bytes_per_key=2 * MIB), _Chunks(saved(photo(64, 64), "JPEG"))
    headers = {"Content-Type": "image/jpeg", **({"Content-Length": str(64 * MIB)} if declared else {})}
    answer = call(service, "POST", "/jobs", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert body.taken == 0 if declared else body.taken < 16
    assert left_over(tmp_path) == []


def test_photos_beyond_the_quota_are_not_unpacked(tmp_path: Path) -> None:
    """A ZIP, a form and a list with more photos than a key may have are refused before a photo is written."""
    service = with_jobs(tmp_path, photos_per_key=3, bytes_per_key=MIB)
    Spool.of(str(tmp_path), "x").folder.parent.touch()  # whoever writes a photo is told that it cannot be
    jpeg, sink = saved(photo(64, 64), "JPEG"), io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.jpg", jpeg)
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bmp", bytes(3 * MIB))
    requests: list[dict[str, Any]] = [
        {"content": sink.getvalue()},
        {"content": large.getvalue()},
        {"files": [("images", (f"{number}.jpg", jpeg)) for number in range(4)]},
        {"json": {"sources": [f"https://cdn.example/{number}.jpg" for number in range(4)]}},
    ]
    for request in requests:
        answer = call(service, "POST", "/jobs", **request)
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded"), answer.text
    assert left_over(tmp_path) == []


def test_a_repeated_request_is_answered_when_the_quota_is_used_up(service: Service) -> None:
    """The job that the quota went into is found again; another one is refused."""
    request: dict[str, Any] = {"json": {"sources": ["https://cdn.example/a"]}, "headers": {"Idempotency-Key": "k"}}
    first = call(service, "POST", "/jobs", **request)
    again = call(service, "POST", "/jobs", **request)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert first.json()["job_id"] == again.json()["job_id"]
    assert call(service, "POST", "/jobs", json=request["json"]).json()["code"] == "quota_exceeded"


def test_a_busy_database_is_told(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes, what is there is told; what is to be written gets 503 with a time to come back."""
    monkeypatch.setattr(routes, "_PATIENCE_S", 0.1)
    job_id = call(service, "POST", "/jobs", json={"sources": ["https://cdn.example/a"]}).json()["job_id"]
    with written_by_another(tmp_path):
        assert call(service, "GET", f"/jobs/{job_id}").json()["state"] == "queued"
        assert call(service, "GET", "/jobs").status_code == 200
        busy = call(service, "DELETE", f"/jobs/{job_id}")
    assert (busy.status_code, busy.json()["code"]) == (503, "unavailable")
    assert int(busy.headers["retry-after"]) > 0
    away = with_jobs(tmp_path / "file" / "folder")
    (tmp_path / "file").touch()
    answer = call(away, "GET", "/jobs")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for something in another thread."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


def leave_while_it_is_written_down(service: Service, folder: Path, **headers: str) -> None:
    """Send a photo, and go away while its job waits for the database; returns once its thread has ended."""

    async def send_and_leave() -> None:
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            with written_by_another(folder):
                files = {"images": saved(photo(64, 64), "JPEG")}
                sending = asyncio.ensure_future(client.post("/jobs", files=files, headers=headers))
                await wait_for(lambda: any(Spool.of(str(folder), "*").folder.parent.glob("*/input/*.photo")))
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending

    asyncio.run(send_and_leave())  # waits for its threads


def test_a_job_that_nobody_knows_of_is_not_begun(service: Service, tmp_path: Path) -> None:
    """Who goes away before the answer, and has named no key, leaves nothing behind."""
    JobStore(service.args.jobs).list_jobs("-", 0, 1)
    leave_while_it_is_written_down(service, tmp_path)
    assert left_over(tmp_path) == []


def test_a_job_that_was_just_written_down_is_withdrawn(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes away between the job's being written down and the answer leaves nothing behind, either."""
    written, gone = threading.Event(), threading.Event()
    add = JobStore.add

    def add_slowly(*arguments: Any) -> Any:
        added = add(*arguments)
        written.set()
        gone.wait(60)
        return added

    monkeypatch.setattr(JobStore, "add", add_slowly)

    async def send_and_leave() -> None:
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            files = {"images": saved(photo(64, 64), "JPEG")}
            sending = asyncio.ensure_future(client.post("/jobs", files=files))
            await wait_for(written.is_set)
            assert len(left_over(tmp_path)) == 2
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            gone.set()
            await wait_for(lambda: left_over(tmp_path) == [])

    asyncio.run(send_and_leave())


def test_a_job_with_a_key_is_found_again(service: Service, tmp_path: Path) -> None:
    """Who goes away before the answer, but has named a key, gets the same job with the same request."""
    JobStore(service.args.jobs).list_jobs("-", 0, 1)
    leave_while_it_is_written_down(service, tmp_path, **{"Idempotency-Key": "order-7"})
    (job_id, folder) = left_over(tmp_path)
    assert job_id == folder
    files = {"images": saved(photo(64, 64), "JPEG")}
    again = call(service, "POST", "/jobs", files=files, headers={"Idempotency-Key": "order-7"})
    assert (again.json()["job_id"], again.headers["idempotent-replayed"]) == (job_id, "true")
    assert left_over(tmp_path) == [job_id, job_id]


def test_the_answer_comes_before_serve_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is not written down in time is refused by us, so that Serve's own timeout leaves no half of it."""
    monkeypatch.setattr(intake, "_KEEP_S", 0.0)
    service = with_jobs(tmp_path, upload_timeout_s=1.0)
    JobStore(service.args.jobs).list_jobs("-", 0, 1)

    async def send() -> Any:
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            with written_by_another(tmp_path):
                files = {"images": saved(photo(64, 64), "JPEG")}
                sending = asyncio.ensure_future(client.post("/jobs", files=files, headers={"Idempotency-Key": "k"}))
                await asyncio.sleep(5)  # on a busy machine its time begins late
                assert not sending.done()
            return await sending

    answer = asyncio.run(send())
    assert (answer.status_code, answer.json()["code"]) == (503, "deadline_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert left_over(tmp_path) == []
