"""What a request for a job may be, before any photo of it is worked on."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")

from cutray.config import JobSettings  # noqa: E402
from serve_apps.remover.api import create_api  # noqa: E402
from serve_apps.remover.schemas import AppArgs  # noqa: E402
from serve_apps.remover.service import Service  # noqa: E402


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Return the state of an Ingress that takes small jobs."""
    jobs = JobSettings(folder=str(tmp_path), max_photos=40, jobs_per_key=1, sources=("https://cdn.example/",))
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
