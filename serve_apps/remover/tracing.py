"""Traces: one span for each part of a request, in whichever process, joined by W3C trace context.

Off unless the standard variables of OpenTelemetry ask for them; nothing of OpenTelemetry is loaded then. Exporter,
sampler and names are those variables' matter. Each process exports for itself, from a thread, in batches.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Protocol

from cutray.errors import ConfigError, MissingExtraError

Attributes = Mapping[str, str | int | float | bool]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTER, _PROTOCOL = "otlp", "http/protobuf"
_NOTHING: AbstractContextManager[None] = nullcontext()


class Tracer(Protocol):
    """Writes down what takes how long."""

    def span(self, name: str, parent: str | Mapping[str, str] = "") -> AbstractContextManager[Any]:
        """Cover a block. The value is a span of OpenTelemetry, or None where traces are off.

        Args:
            name: What is done.
            parent: ``traceparent`` of the span it belongs to, or headers that hold one; empty for the current one.
        """

    def record(self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """Note what is over already, between two moments of ``time.time_ns``."""

    def current(self) -> str:
        """Return ``traceparent`` of the current span, for another process; empty where traces are off."""


class NoTracer:
    """Does nothing, at no cost."""

    def span(self, name: str, parent: str | Mapping[str, str] = "") -> AbstractContextManager[Any]:  # noqa: ARG002
        """Cover nothing."""
        return _NOTHING

    def record(self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """Note nothing."""

    def current(self) -> str:
        """Return nothing."""
        return ""


class OtlpTracer:
    """Exports spans by OTLP over HTTP."""

    def __init__(self, part: str) -> None:
        """Start the exporter of this process.

        Args:
            part: proxy, Ingress, Cutter or Segmenter.
        """
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        os.environ.setdefault("OTEL_SERVICE_NAME", "cutray")
        resource = Resource.create({"cutray.part": part, "process.pid": os.getpid()})
        # Not the global provider, which belongs to Ray's own traces.
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("cutray")
        self._w3c = TraceContextTextMapPropagator()
        self._error = trace.Status(trace.StatusCode.ERROR)

    @contextmanager
    def span(self, name: str, parent: str | Mapping[str, str] = "") -> Iterator[Any]:
        """Cover a block; an error is noted by its kind alone, for messages may hold what is the client's."""
        with self._tracer.start_as_current_span(
            name, self._context(parent), record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(self._error)
                raise

    def record(self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """Note what is over already."""
        span = self._tracer.start_span(name, self._context(parent), attributes=attributes, start_time=start_ns)
        span.end(end_ns)

    def current(self) -> str:
        """Return ``traceparent`` of the current span."""
        carrier: dict[str, str] = {}
        self._w3c.inject(carrier)
        return carrier.get("traceparent", "")

    def _context(self, parent: str | Mapping[str, str]) -> Any:
        """Return the context of a parent; None means the current one."""
        if not parent:
            return None
        return self._w3c.extract({"traceparent": parent} if isinstance(parent, str) else parent)


def are_wanted() -> bool:
    """Return whether the environment asks for traces: an exporter is named, or an address to export to."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    return exporter != "none" if exporter else any(os.environ.get(name) for name in _ENDPOINTS)


def check_tracing() -> None:
    """Make sure that the traces that are asked for can be had; call it before anything is started.

    Raises:
        ConfigError: Another exporter or protocol is asked for.
        MissingExtraError: The packages are not installed.
    """
    if not are_wanted():
        return
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _PROTOCOL)
    for name, got, allowed in (
        ("OTEL_TRACES_EXPORTER", os.environ.get("OTEL_TRACES_EXPORTER") or _EXPORTER, _EXPORTER),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, _PROTOCOL),
    ):
        if got != allowed:
            raise ConfigError(got=f"{name} = {got!r}", allowed=allowed, fix=f"set {name}={allowed}, or none of OTEL_*")
    try:
        importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise MissingExtraError(
            got="OTEL_* asks for traces, and the exporter of OpenTelemetry is not installed",
            fix="run `pip install 'cutray[traces]'`, or set OTEL_TRACES_EXPORTER=none",
        ) from error


@cache
def open_tracer(part: str) -> Tracer:
    """Return the tracer of this process.

    Args:
        part: proxy, Ingress, Cutter or Segmenter.

    Raises:
        ConfigError: Another exporter or protocol is asked for.
        MissingExtraError: The packages are not installed.
    """
    check_tracing()
    return OtlpTracer(part) if are_wanted() else NoTracer()
