"""The outermost middleware, at the proxy and in the replica: body limits, request ids, headers, one error shape.

Serve reads bodies without any limit and believes headers by which a client lengthens its own timeout. The variable
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_apps.remover.request_limits:middlewares``, set before the cluster
starts, puts this middleware on the proxies. The application has it as well.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutray.config import MIB
from serve_apps.remover.errors import (
    REMOVE_BG_PATH,
    RETRY_AFTER_S,
    ApiError,
    code_for_status,
    error_body,
    remove_bg_response,
)
from serve_apps.remover.load_shedder import LoadShedder
from serve_apps.remover.responses import EXPOSED_HEADERS
from serve_apps.remover.schemas import body_limits, cors_origins
from serve_apps.remover.trace_requests import TraceRequests
from serve_apps.remover.tracing import are_wanted, open_tracer

_DROPPED = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"serve_multiplexed_model_id"})
_GOOD_ID = re.compile(rb"[A-Za-z0-9-]{1,64}")
_BATCH_PATH, _JOBS_PATH = "/batch-remove-background", "/jobs"
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class RequestLimits:
    """Pure ASGI middleware; counts the body's bytes as they arrive, whatever the headers promise."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        max_batch_body_bytes: int,
        cors_origins: Sequence[str] = (),
        max_job_body_bytes: int = 0,
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            max_body_bytes: Largest body.
            max_batch_body_bytes: Largest body of a batch.
            cors_origins: Web origins that may read what is refused here; the application tells them the rest.
            max_job_body_bytes: Largest body of a job; 0 means that of a request.
        """
        self._app = app
        self._limit = max_body_bytes
        self._limits = {_BATCH_PATH: max_batch_body_bytes, _JOBS_PATH: max_job_body_bytes or max_body_bytes}
        self._origins = frozenset(cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it right here."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
                return
            await self._app(scope, receive, send)
            return
        headers, request_id, refusal = self._check(scope)
        watch = _Watch(receive, send, self._limit_of(scope), request_id, self._cors_headers(headers))
        watch.path = scope.get("path", "")
        watch.is_removebg = scope.get("path", "").rstrip("/").endswith(REMOVE_BG_PATH)
        if refusal:
            await watch.refuse(refusal)
            return
        await self._app({**scope, "headers": headers}, watch.receive, watch.send)
        if watch.too_large and not watch.started:
            await watch.refuse(_too_large(self._limit_of(scope)))

    def _cors_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers by which a page of an allowed origin may read a refusal."""
        origin = next((value for name, value in headers if name == b"origin"), b"").decode("latin-1")
        if not origin or not self._origins & {origin, "*"}:
            return []
        allowed = "*" if "*" in self._origins else origin
        return [
            (b"access-control-allow-origin", allowed.encode("latin-1")),
            (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode()),
            (b"vary", b"Origin"),
        ]

    def _limit_of(self, scope: Scope) -> int:
        """Return how many bytes a body may have at this address."""
        path = scope.get("path", "").rstrip("/")
        return next((limit for end, limit in self._limits.items() if path.endswith(end)), self._limit)

    def _check(self, scope: Scope) -> tuple[list[tuple[bytes, bytes]], str, ApiError | None]:
        """Look at the headers: what stays, which id the request has, and whether it goes no further."""
        kept, request_id, refusal = [], "", None
        for name, value in ((name.lower(), value) for name, value in scope["headers"]):
            if name in _DROPPED:
                continue
            if name == b"x-request-id":
                request_id = value.decode() if _GOOD_ID.fullmatch(value) else request_id
                continue
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                refusal = ApiError("unsupported_encoding")
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > self._limit_of(scope)):
                refusal = _too_large(self._limit_of(scope))
            kept.append((name, value))
        request_id = request_id or str(uuid.uuid4())
        return [*kept, (b"x-request-id", request_id.encode())], request_id, refusal


class _Watch:
    """One request on its way: counts what comes in, completes what goes out."""

    def __init__(
        self, receive: Receive, send: Send, limit: int, request_id: str, cors_headers: list[tuple[bytes, bytes]]
    ) -> None:
        self._receive, self._send = receive, send
        self._cors_headers = cors_headers
        self._limit, self._request_id = limit, request_id
        self._seen = 0
        self._replaced = False
        self.too_large = False
        self.started = False
        self.path = ""
        self.is_removebg = False

    async def receive(self) -> Message:
        """Pass on what arrives until it is too much; then the client counts as gone."""
        if self.too_large:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                self.too_large = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Add headers; answers in plain text that Serve itself gives become the one JSON shape."""
        if self.too_large and not self.started:
            return
        if message["type"] == "http.response.start":
            headers = [(name.lower(), value) for name, value in message.get("headers", [])]
            if message["status"] >= 400 and dict(headers).get(b"content-type", b"").startswith(b"text/plain"):
                self._replaced = True
                code = code_for_status(message["status"])
                await self.refuse(ApiError(code, retry_after_s=RETRY_AFTER_S), message["status"])
                return
            self.started = True
            # Serve adds the id as well, once at each of its stations.
            headers = [pair for pair in headers if pair[0] != b"x-request-id"]
            present = {name for name, _ in headers}
            headers += [pair for pair in _SECURITY if pair[0] not in present]
            headers.append((b"x-request-id", self._request_id.encode()))
            message = {**message, "headers": headers}
        elif self._replaced:
            return
        await self._send(message)

    async def refuse(self, error: ApiError, status: int | None = None) -> None:
        """Answer with an error and end the connection, whose unread rest would be in the way."""
        self.started = True
        body = json.dumps(error_body(error.code, error.message, self._request_id, self.path)).encode()
        if self.is_removebg:
            shaped = remove_bg_response(error)
            body, status = bytes(shaped.body), shaped.status_code
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", self._request_id.encode()),
            *_SECURITY,
            *self._cors_headers,
            *((name.lower().encode(), value.encode()) for name, value in error.headers().items()),
        ]
        if error.status == 413:
            headers.append((b"connection", b"close"))
        start: dict[str, Any] = {"type": "http.response.start", "status": status or error.status, "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _too_large(limit: int) -> ApiError:
    """Name the limit that a body exceeds."""
    shown = f"{limit / MIB:.4g} MiB ({limit} bytes)" if limit >= MIB else f"{limit} bytes"
    return ApiError("body_too_large", f"The body has more than {shown}, the most that this address takes.")


def middlewares() -> list[Middleware]:
    """Return what Serve puts on its proxies and on replicas that are reached directly; the last one is outermost."""
    single, batch, job = body_limits()
    limits = Middleware(
        RequestLimits,
        max_body_bytes=single,
        max_batch_body_bytes=batch,
        cors_origins=cors_origins(),
        max_job_body_bytes=job,
    )
    traces = [Middleware(TraceRequests, open_tracer("proxy"), "proxy")] if are_wanted() else []
    return [Middleware(LoadShedder), *traces, limits]
