"""Closes the proxy's door while the endpoint is full, so that a refusal costs neither the body nor a hop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.remover.dropin import REMOVE_BG_PATH, remove_bg_response
from serve_apps.remover.errors import ApiError, error_response
from serve_apps.remover.metrics import rejected_counter

_GROWTH_PER_S = 0.1
_RETRY_AFTER_S = 2


class Door:
    """Pure ASGI middleware for the proxy: learns from the refusals of the Ingress how many uploads it takes.

    The Ingress alone knows how many photos it may have under way, and the number of Ingresses changes. So one that it
    refuses as overloaded sets the bound to what was under way then; the bound rises by a tenth, at least by one, per
    second to find out more, and is forgotten once half of it is free. Only requests whose body has arrived are
    counted: slow uploads keep nobody out.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        """Wrap an application.

        Args:
            app: What is behind the door.
            clock: Returns seconds.
        """
        self._app, self._clock = app, clock
        self._rejected = rejected_counter()
        self._under_way = 0
        self._learned, self._learned_at_s, self._retry_after_s = math.inf, 0.0, _RETRY_AFTER_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it before its body is read."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._under_way < self._bound():
            await self._pass(scope, receive, send)
        else:
            self._rejected.inc(tags={"reason": "overloaded"})
            error = ApiError("overloaded", retry_after_s=self._retry_after_s)
            shaped = remove_bg_response(error) if scope["path"] == REMOVE_BG_PATH else error_response(error, scope)
            await shaped(scope, receive, send)

    def _bound(self) -> float:
        """Return how many may be under way at this moment."""
        if 2 * self._under_way < self._learned:
            self._learned = math.inf
        if self._learned == math.inf:
            return math.inf
        waited_s = self._clock() - self._learned_at_s
        return self._learned + math.floor(waited_s * max(1, _GROWTH_PER_S * self._learned))

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request while it is under way, and learn from its answer."""
        arrived = 0

        async def watching_receive() -> Message:
            nonlocal arrived
            message = await receive()
            if not arrived and message["type"] == "http.request" and not message.get("more_body"):
                arrived = 1
                self._under_way += 1
            return message

        async def watching_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._learn(scope, dict(message["headers"]), self._under_way - arrived)
            await send(message)

        try:
            await self._app(scope, watching_receive, watching_send)
        finally:
            self._under_way -= arrived

    def _learn(self, scope: Scope, headers: dict[bytes, bytes], others: int) -> None:
        """Note how many others were under way if there was no room; a batch may be refused for its own size."""
        if headers.get(b"x-error-code") != b"overloaded" or "batch" in scope["path"]:
            return
        self._learned, self._learned_at_s = max(1, others), self._clock()
        self._retry_after_s = int(headers.get(b"retry-after", _RETRY_AFTER_S))
