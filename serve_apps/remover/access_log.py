"""The access log, one JSON line per request, and the counters that go with it. No file names, no image bytes."""

from __future__ import annotations

import json
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.remover.errors import ApiError, error_response, request_id
from serve_apps.remover.metrics import IngressMetrics

_LOG = logging.getLogger("ray.serve.cutray")
_NO_ANSWER = 499  # the client went away


class AccessLog:
    """Pure ASGI middleware inside `RequestLimits`, so that ids are there and headers are clean."""

    def __init__(self, app: ASGIApp, metrics: IngressMetrics) -> None:
        """Wrap an application."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, received, sent = _NO_ANSWER, 0, 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        scope.setdefault("state", {})
        try:
            await self._app(scope, counting_receive, counting_send)
        except Exception as error:
            # The outermost edge of the application: whatever was not foreseen is logged here and goes no further.
            _LOG.error("unforeseen %s", type(error).__name__, exc_info=True)
            if status == _NO_ANSWER:
                await _answer_500(scope, counting_receive, counting_send)
        finally:
            self._note(scope, status, received, sent, (time.perf_counter() - started) * 1000)

    def _note(self, scope: Scope, status: int, received: int, sent: int, spent_ms: float) -> None:
        """Count and log; the route's pattern stands for the path, which is the client's to choose."""
        route = getattr(scope.get("route"), "path", "other")
        state = scope.get("state", {})
        self._metrics.requests.inc(tags={"route": route, "status": str(status)})
        self._metrics.request_ms.observe(spent_ms, {"route": route})
        code = state.get("error_code")
        if code:
            self._metrics.rejected.inc(tags={"reason": code})
        line = {
            "event": "request",
            "request_id": request_id(scope),
            **({"trace_id": state["trace_id"]} if "trace_id" in state else {}),
            "method": scope["method"],
            "route": route,
            "status": status,
            "code": code,
            "key": state.get("key", "-"),
            "bytes_in": received,
            "bytes_out": sent,
            "ms": round(spent_ms, 1),
        }
        _LOG.info(json.dumps(line))


async def _answer_500(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in the one shape, without a word of what happened."""
    scope["state"]["error_code"] = "internal"
    response = error_response(ApiError("internal"), scope)
    await response(scope, receive, send)
