"""Refuses uploads at the proxy while the endpoint is full, so that a refusal costs neither the body nor a hop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.remover.errors import REMOVE_BG_PATH, RETRY_AFTER_S, ApiError, error_response, remove_bg_response
from serve_apps.remover.metrics import rejected_counter, requests_counter

_PHOTOS = ("/remove-background", "/batch-remove-background", REMOVE_BG_PATH, "/api/remove", "/edits")
# How the path of what takes photos or tensors ends, and its route in the metrics.
_UPLOADS = {**{path: path for path in _PHOTOS}, "/infer": "/v2/models/{name}/infer"}
_CAPACITY = b"x-cutray-capacity"  # from the Ingress to the load shedder, never further
_GROWTH_PER_S = 0.1


class CapacityHeader:
    """Pure ASGI middleware of the Ingress: says with each answer how many photos it would take now."""

    def __init__(self, app: ASGIApp, capacity: Callable[[], int]) -> None:
        """Wrap an application.

        Args:
            app: The application.
            capacity: Returns how many photos it would take.
        """
        self._app, self._capacity = app, capacity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add a header to the answer of an upload."""

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (_CAPACITY, b"%d" % self._capacity())]}
            await send(message)

        await self._app(scope, receive, telling_send if _upload_of(scope) else send)


class LoadShedder:
    """Pure ASGI middleware for the proxy: learns from the answers of the Ingress how many uploads may be under way.

    Only the Ingress knows how many photos it takes: a batch holds several, and the number of Ingresses changes. So the
    first upload that is refused for lack of capacity sets the bound to the number of the others under way. An answer
    that reports more capacity raises the bound. So does time: by a tenth, at least by one, per second. The bound is
    dropped once less than half of it is used. Only uploads whose body has arrived are counted, so that slow ones keep
    nobody out. Each proxy learns for itself.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        """Wrap an application.

        Args:
            app: The application that it protects.
            clock: Returns seconds.
        """
        self._app, self._clock = app, clock
        self._requests, self._rejected = requests_counter(), rejected_counter()
        self._under_way = 0
        self._learned, self._learned_at_s, self._retry_after_s = math.inf, 0.0, RETRY_AFTER_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it before its body is read."""
        upload = _upload_of(scope)
        if upload is None:
            await self._app(scope, receive, send)
            return
        if 2 * self._under_way < self._learned:
            self._learned = math.inf
        # Pages of other origins need headers that only the Ingress knows.
        if self._under_way < self._bound() or _is_of_another_origin(scope):
            await self._pass(scope, receive, send)
            return
        self._rejected.inc(tags={"reason": "overloaded"})
        self._requests.inc(tags={"route": upload, "status": "429"})
        error = ApiError("overloaded", retry_after_s=self._retry_after_s)
        shaped = remove_bg_response(error) if upload == REMOVE_BG_PATH else error_response(error, scope)
        await shaped(scope, receive, send)

    def _bound(self) -> float:
        """Return how many may be under way at this moment."""
        if self._learned == math.inf:
            return math.inf
        waited_s = self._clock() - self._learned_at_s
        return self._learned + math.floor(waited_s * max(1, _GROWTH_PER_S * self._learned))

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request while it is under way, and learn from its answer."""
        arrived, over = 0, False

        async def watching_receive() -> Message:
            nonlocal arrived
            message = await receive()
            if not (arrived or over) and message["type"] == "http.request" and not message.get("more_body"):
                arrived = 1
                self._under_way += 1
            return message

        async def watching_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message.get("headers", ())]
                self._learn(dict(headers), self._under_way - arrived)
                message = {**message, "headers": [pair for pair in headers if pair[0] != _CAPACITY]}
            await send(message)

        try:
            await self._app(scope, watching_receive, watching_send)
        finally:
            over = True
            self._under_way -= arrived

    def _learn(self, headers: dict[bytes, bytes], others: int) -> None:
        """Take from an answer what it says about capacity, while so many other uploads are under way."""
        if _CAPACITY not in headers:
            return
        capacity = int(headers[_CAPACITY])
        if headers.get(b"x-error-code") == b"overloaded" and capacity <= 0:
            self._learned, self._learned_at_s = max(1, others), self._clock()
            told = headers.get(b"retry-after", b"")
            self._retry_after_s = int(told) if told.isdigit() else RETRY_AFTER_S
        elif others + capacity > self._learned:
            self._learned, self._learned_at_s = others + capacity, self._clock()


def _upload_of(scope: Scope) -> str | None:
    """Return the route of a request that brings photos or tensors, whatever the application's prefix is."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path = scope["path"].rstrip("/")
    return next((route for ending, route in _UPLOADS.items() if path.endswith(ending)), None)


def _is_of_another_origin(scope: Scope) -> bool:
    """Whether a request comes from the page of another site."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
