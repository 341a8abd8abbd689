"""Begins the trace of a request, or goes on with the caller's, at the proxy and in the Ingress."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.remover.errors import request_id
from serve_apps.remover.tracing import Tracer

_SILENT = ("/health", "/ready", "/metrics", "/-/healthz", "/-/routes")  # asked every few seconds
_CONTEXT = (b"traceparent", b"tracestate")


class TraceRequests:
    """Pure ASGI middleware inside `RequestLimits`, so that the request has its id."""

    def __init__(self, app: ASGIApp, tracer: Tracer, part: str) -> None:
        """Wrap an application.

        Args:
            app: The application.
            tracer: From ``open_tracer``.
            part: proxy or Ingress.
        """
        self._app, self._tracer, self._part = app, tracer, part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cover one request with a span, which those further in and the answer are told of."""
        if scope["type"] != "http" or scope["path"].rstrip("/").endswith(_SILENT):
            await self._app(scope, receive, send)
            return
        arrived = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CONTEXT}
        with self._tracer.span(f"{self._part} {scope['method']}", arrived) as span:
            context = self._tracer.current()
            headers = [pair for pair in scope["headers"] if pair[0] not in _CONTEXT]
            told = (b"traceparent", context.encode())
            inner = {**scope, "headers": [*headers, told], "state": {**scope.get("state", {})}}
            inner["state"]["trace_id"] = context.split("-")[1]
            span.set_attribute("cutray.request_id", request_id(scope))
            span.set_attribute("http.request.method", scope["method"])

            async def telling_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    kept = [pair for pair in message.get("headers", ()) if pair[0] != b"traceparent"]
                    message = {**message, "headers": [*kept, told]}
                await send(message)

            await self._app(inner, receive, telling_send)
            if route := getattr(inner.get("route"), "path", ""):
                span.set_attribute("http.route", route)
