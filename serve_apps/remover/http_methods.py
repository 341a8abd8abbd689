"""Answers HEAD wherever GET is answered, OPTIONS everywhere, and names the allowed methods in each 405."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HttpMethods:
    """Pure ASGI middleware. GET and POST pass through it; only a 405 has its routes looked up."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """Wrap an application.

        Args:
            app: The application.
            routes: Its routes.
        """
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "OPTIONS" and (allowed := self._allowed(scope)):
            await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allowed)]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def naming_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                kept = [pair for pair in message.get("headers", []) if pair[0] != b"allow"]
                message = {**message, "headers": [*kept, (b"allow", self._allowed(scope))]}
            elif message["type"] == "http.response.body" and method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        if method == "HEAD":
            scope["method"] = "GET"
        try:
            await self._app(scope, receive, naming_send)
        finally:
            scope["method"] = method  # the access log, further out, has the client's own

    def _allowed(self, scope: Scope) -> bytes:
        """Return the methods that a path has, as the header ``Allow`` lists them; empty if there is no such path."""
        methods: set[str] = set()
        for route in self._routes:
            if route.matches(scope)[0] != Match.NONE:
                methods |= getattr(route, "methods", None) or set()
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted({*methods, "OPTIONS"})).encode() if methods else b""
