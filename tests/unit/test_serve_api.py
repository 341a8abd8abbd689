"""The application of the Ingress without a cluster behind it: who may come in, and what is refused before any work."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")

from serve_apps.remover.api import create_api  # noqa: E402
from serve_apps.remover.schemas import AppArgs, Limits  # noqa: E402
from serve_apps.remover.service import Service  # noqa: E402

KEYS = {"shop": hashlib.sha256(b"s3cret").hexdigest()}


def make(**args: Any) -> Service:
    """Return the state of an Ingress that has nobody to ask."""
    return Service(None, {}, AppArgs(**args))


def call(service: Service, method: str, path: str, **options: Any) -> Any:
    """Send one request straight to the application."""

    async def send() -> Any:
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


@pytest.mark.parametrize("path", ["/remove-background", "/batch-remove-background", "/api/remove"])
def test_key_is_needed_where_photos_go(path: str) -> None:
    """Without a key 401 in the usual shape; with one, the request is looked at."""
    service = make(api_keys=KEYS)
    refused = call(service, "POST", path, content=b"")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    for headers in ({"X-API-Key": "s3cret"}, {"Authorization": "Bearer s3cret"}):
        assert call(service, "POST", path, content=b"", headers=headers).json()["code"] == "missing_image"


def test_key_is_needed_for_facts_but_not_for_health() -> None:
    """The model and the metrics are for those with a key; whether the process lives is for everybody."""
    service = make(api_keys=KEYS, metrics_port=1)
    assert call(service, "GET", "/model-info").status_code == 401
    assert call(service, "GET", "/metrics").status_code == 401
    assert call(service, "GET", "/health").status_code == 200


def test_removebg_clients_get_their_own_shape() -> None:
    """A missing key is 403 with a title, as clients of remove.bg know it."""
    refused = call(make(api_keys=KEYS), "POST", "/v1.0/removebg", data={"image_url": "http://x"})
    assert refused.status_code == 403
    assert list(refused.json()["errors"][0]) == ["title"]


def test_other_origins_are_shut_out_unless_named() -> None:
    """No CORS header by default; with a list, exactly the named origin gets one."""
    headers = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in call(make(), "GET", "/health", headers=headers).headers
    service = make(cors_origins=["https://shop.example"])
    allowed = call(service, "GET", "/health", headers=headers)
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in allowed.headers
    other = call(service, "GET", "/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_full_endpoint_is_told_before_the_body_is_read() -> None:
    """With as many photos under way as may be, the next gets 429 and the time to come back; then there is capacity."""
    service = make(limits={"max_in_flight": 2, "retry_after_s": 7})
    with service.admitted(2):
        refused = call(service, "POST", "/remove-background", content=b"x")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        assert call(service, "GET", "/health").status_code == 200
    assert service.in_flight == 0


def test_draining_takes_nothing_more() -> None:
    """Once the end has begun, photos and /ready get 503, and the wait is over when nothing is under way."""
    service = make()
    assert asyncio.run(service.drain(5)) == 0
    assert call(service, "POST", "/remove-background", content=b"x").status_code == 503
    assert call(service, "GET", "/ready").json()["code"] == "not_ready"


def test_not_ready_without_a_segmenter() -> None:
    """While no network answers, /ready says so and names nothing internal."""
    answer = call(make(), "GET", "/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "NoneType" not in answer.text


def test_unforeseen_faults_say_nothing() -> None:
    """A fault inside leaves as 500 in the usual shape, with an id and without a word of what happened."""
    answer = call(make(), "POST", "/remove-background", content=b"x")
    assert answer.status_code == 500
    assert set(answer.json()) == {"code", "message", "request_id"}
    assert "NoneType" not in answer.text


def test_page_can_be_left_out() -> None:
    """An endpoint for programs alone has no page but still describes itself."""
    assert call(make(page=False), "GET", "/").status_code == 404
    assert call(make(page=False), "GET", "/docs").status_code == 200
    assert "default-src 'none'" in call(make(), "GET", "/").headers["content-security-policy"]


def test_defaults_of_the_limits_hold_together() -> None:
    """One photo fits into a body, a batch into its own, and the upload may not outlast Serve's own timeout."""
    limits = Limits()
    assert limits.max_image_bytes <= limits.max_body_bytes <= limits.max_batch_body_bytes
    assert limits.upload_timeout_s + limits.deadline_s < 60


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    """Also one of zeros, which Python does not turn into a number."""
    for text in ("0" * 5000, "9" * 11, "٣", "1.5"):
        refused = call(make(), "GET", "/edits/r.1/alpha", params={"max_side": text})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_option")
