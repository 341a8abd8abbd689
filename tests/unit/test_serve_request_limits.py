"""The limits in front of the endpoint, as a plain ASGI application without any server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from serve_apps.remover import guard, request_limits
from serve_apps.remover.request_limits import RequestLimits

LIMIT, BATCH_LIMIT = 1000, 5000
Answer = tuple[int, dict[str, str], bytes]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body and answer with what the application sees."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"size": size, "headers": headers}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def ask(
    app: Any,
    chunks: list[bytes],
    headers: dict[str, str] | None = None,
    path: str = "/x",
    origins: tuple[str, ...] = (),
) -> tuple[Answer, int]:
    """Send a request through the limits; returns the answer and how many chunks were read."""
    sent: list[Any] = []
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        index = read - 1
        if index >= len(chunks):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks[index], "more_body": index + 1 < len(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw}
    asyncio.run(RequestLimits(app, LIMIT, BATCH_LIMIT, origins)(scope, receive, send))
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    head = {name.decode(): value.decode() for name, value in starts[0]["headers"]}
    return (starts[0]["status"], head, b"".join(message.get("body", b"") for message in sent)), read


def test_body_within_the_limit_passes() -> None:
    """A body of exactly the limit reaches the application whole."""
    (status, headers, body), _ = ask(echo, [b"a" * 600, b"b" * 400])
    assert status == 200
    assert json.loads(body)["size"] == LIMIT
    assert headers["x-content-type-options"] == "nosniff"


def test_chunked_body_is_cut_off_while_it_is_read() -> None:
    """A body without a length is refused at the chunk that goes over, not after the last one."""
    (status, headers, body), read = ask(echo, [b"a" * 400] * 1000)
    assert status == 413
    assert json.loads(body)["code"] == "body_too_large"
    assert headers["connection"] == "close"
    assert read == 3


@pytest.mark.parametrize("length", ["1001", "99999999999999999999999999", "-5", "abc"])
def test_announced_length_is_refused_before_reading(length: str) -> None:
    """A length that is too large or senseless is refused without reading a byte."""
    (status, _, _), read = ask(echo, [b"a"], {"Content-Length": length})
    assert status == 413
    assert read == 0


def test_false_length_is_not_believed() -> None:
    """A small announced length does not let a large body in."""
    (status, _, _), _ = ask(echo, [b"a" * 900, b"a" * 900], {"Content-Length": "10"})
    assert status == 413


def test_batch_has_its_own_limit() -> None:
    """The address for batches takes more bytes, and not without end."""
    (status, _, body), _ = ask(echo, [b"a" * 4000], path="/batch-remove-background")
    assert (status, json.loads(body)["size"]) == (200, 4000)
    (status, _, _), _ = ask(echo, [b"a" * 4000] * 2, path="/batch-remove-background")
    assert status == 413


def test_headers_that_change_timeouts_are_dropped() -> None:
    """A client can neither lengthen its timeout nor switch off cancellation."""
    evil = {"X-Request-Timeout-Seconds": "0", "X-Request-Disconnect-Disabled": "?1", "X-Other": "stays"}
    (_, _, body), _ = ask(echo, [b""], evil)
    seen = json.loads(body)["headers"]
    assert "x-other" in seen
    assert not {"x-request-timeout-seconds", "x-request-disconnect-disabled"} & set(seen)


@pytest.mark.parametrize("bad", ["a" * 65, "a b", "x\r\nset-cookie: y", "ü", ""])
def test_bad_request_ids_are_replaced(bad: str) -> None:
    """An id with anything but letters, digits and dashes never comes back."""
    (_, headers, _), _ = ask(echo, [b""], {"X-Request-Id": bad})
    assert headers["x-request-id"] != bad
    assert len(headers["x-request-id"]) == 36


def test_good_request_id_is_kept() -> None:
    """A decent id is passed on and comes back once."""
    (_, headers, body), _ = ask(echo, [b""], {"X-Request-Id": "order-42"})
    assert headers["x-request-id"] == "order-42"
    assert json.loads(body)["headers"]["x-request-id"] == "order-42"


def test_compressed_bodies_are_refused() -> None:
    """A body that would have to be unpacked is not taken."""
    (status, _, body), _ = ask(echo, [b"a"], {"Content-Encoding": "gzip"})
    assert (status, json.loads(body)["code"]) == (415, "unsupported_encoding")


def test_plain_text_errors_of_the_server_become_json() -> None:
    """What Serve says in its own words, with internal names, becomes the one JSON shape."""

    async def overloaded(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"Deployment Ingress#app at 10.0.0.1", "more_body": True})
        await send({"type": "http.response.body", "body": b" is gone"})

    (status, headers, body), _ = ask(overloaded, [b""])
    assert status == 503
    assert headers["retry-after"] == "2"
    assert set(json.loads(body)) == {"code", "message", "request_id"}
    assert b"10.0.0.1" not in body


def test_refusal_names_the_limit() -> None:
    """Whoever sends too much learns how much is taken, by the length that was promised and by the bytes that came."""
    for headers in ({"Content-Length": "4000"}, {}):
        (status, _, body), _ = ask(echo, [b"a" * 4000], headers)
        assert status == 413
        assert "1000 bytes" in json.loads(body)["message"]


def test_pages_of_named_origins_can_read_a_refusal() -> None:
    """The headers of CORS are on refusals too, for the named origins alone; by default for none."""
    shop, evil = "https://shop.example", "https://evil.example"

    def allowed(origins: tuple[str, ...], origin: str) -> str | None:
        (status, headers, _), _ = ask(echo, [b"a" * 4000], {"Origin": origin}, origins=origins)
        assert status == 413
        return headers.get("access-control-allow-origin")

    assert allowed((shop,), shop) == shop
    assert allowed((shop,), evil) is None
    assert allowed(("*",), evil) == "*"
    assert allowed((), shop) is None


def test_former_import_path_still_works_and_warns() -> None:
    """Nodes of a cluster may still name the former module in their environment."""
    with pytest.warns(DeprecationWarning, match=r"request_limits:middlewares"):
        former = guard.middlewares()
    assert [middleware.cls for middleware in former] == [m.cls for m in request_limits.middlewares()]
