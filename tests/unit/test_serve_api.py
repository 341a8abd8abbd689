"""The application of the Ingress without a cluster behind it: who may come in, and what is refused before any work."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")

from cutray.console.run import run  # noqa: E402
from serve_apps.remover.api import create_api  # noqa: E402
from serve_apps.remover.schemas import AppArgs, Limits  # noqa: E402
from serve_apps.remover.service import Service  # noqa: E402
from serve_apps.rollout.command import rollout  # noqa: E402
from tests.http_servers import serving  # noqa: E402

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


def test_keys_may_have_letters_of_any_script() -> None:
    """The hash is that of the key in UTF-8, whether a program sends that, or a browser sends Latin-1."""
    for key in ("voil\u00e0", "\u00fcber", "\u96ea\u5c71"):
        service = make(api_keys={"shop": hashlib.sha256(key.encode()).hexdigest()})
        sent = [key.encode()] + ([key.encode("latin-1")] if key.isascii() or max(key) < "\u0100" else [])
        for data in sent:
            for headers in ({b"X-API-Key": data}, {b"Authorization": b"Bearer " + data}):
                answer = call(service, "POST", "/remove-background", content=b"", headers=headers)
                assert answer.json()["code"] == "missing_image", (key, headers)
        assert call(service, "POST", "/remove-background", headers={b"X-API-Key": b"\xff"}).status_code == 401


class Recorder(ThreadingHTTPServer):
    """A server that answers every request with ``{}``, and notes its first line and its key."""

    def __init__(self) -> None:
        """Listen on a free port of the loopback."""
        self.seen: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Recorder

    def do_GET(self) -> None:
        """Answer."""
        self.server.seen.append((self.requestline, self.headers["X-API-Key"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def behind_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Recorder, Recorder]]:
    """Run a proxy that the environment names, and another server; returns both."""
    with serving(Recorder()) as proxy, serving(Recorder()) as server:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "test")  # the host of `call`
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        yield proxy, server


def test_no_proxy_stands_before_the_metrics(behind_proxy: tuple[Recorder, Recorder]) -> None:
    """They are read from this machine itself, whatever the environment says."""
    proxy, server = behind_proxy
    assert call(make(metrics_port=server.server_port), "GET", "/metrics").text == "{}"
    assert (len(proxy.seen), len(server.seen)) == (0, 1)


def test_no_proxy_learns_the_key_of_an_administrator(behind_proxy: tuple[Recorder, Recorder]) -> None:
    """Where the endpoint is on this machine, `cutray rollout` asks it directly; elsewhere as the environment says."""
    proxy, server = behind_proxy
    for host in ("127.0.0.1", "localhost"):
        assert run(rollout, ["status", "--url", f"http://{host}:{server.server_port}", "--api-key", "s3cret"]) == 0
    assert (proxy.seen, [key for _, key in server.seen]) == ([], ["s3cret"] * 2)
    assert run(rollout, ["status", "--url", "http://cutray.example"]) == 0
    assert [line for line, _ in proxy.seen] == ["GET http://cutray.example/rollout HTTP/1.1"]
