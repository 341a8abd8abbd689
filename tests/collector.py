"""A collector of traces: takes spans by OTLP over HTTP, as any other does, and keeps them."""

from __future__ import annotations

import gzip
import http.server
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(http.server.ThreadingHTTPServer):
    """Listens on the loopback."""

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Receive)
        self.spans: list[tuple[dict[str, str], Any]] = []

    def of_trace(self, trace: str) -> list[tuple[dict[str, str], Any]]:
        """Return the resource's attributes and the span, for all spans of one trace."""
        return [(resource, span) for resource, span in list(self.spans) if span.trace_id.hex() == trace]


class _Receive(http.server.BaseHTTPRequestHandler):
    """Decodes what a process exports."""

    server: Collector

    def do_POST(self) -> None:
        """Keep the spans."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {pair.key: pair.value.string_value for pair in group.resource.attributes}
            self.server.spans += [(resource, span) for scope in group.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
