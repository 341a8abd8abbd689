"""When there are traces, what is refused, and that nothing is loaded or spent without them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from cutray.errors import ConfigError, MissingExtraError
from serve_apps.remover.tracing import NoTracer, are_wanted, check_tracing, open_tracer

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without any variable, and forget tracers."""
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", *ENDPOINT):
        monkeypatch.delenv(name, raising=False)
    open_tracer.cache_clear()
    yield
    open_tracer.cache_clear()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
    ],
)
def test_the_standard_variables_decide(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    """An exporter or an address switches traces on; `none` and a disabled SDK switch them off."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert are_wanted() is wanted


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
)
def test_what_is_not_offered_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Another exporter or protocol is an error that names the variable, not silence."""
    for variable, setting in {**ENDPOINT, name: value}.items():
        monkeypatch.setenv(variable, setting)
    with pytest.raises(ConfigError, match=name):
        check_tracing()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces that are asked for and cannot be had stop the start, with what to install."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    with pytest.raises(MissingExtraError, match=r"cutray\[traces\]"):
        open_tracer("Ingress")


def test_without_traces_nothing_is_loaded() -> None:
    """The tracer does nothing, and no module of the exporter or the SDK comes in with it."""
    tracer = open_tracer("Ingress")
    assert isinstance(tracer, NoTracer)
    assert tracer.current() == ""
    with tracer.span("cut") as span:
        assert span is None
    code = (
        "import sys; from serve_apps.remover.tracing import open_tracer; open_tracer('Ingress').current();"
        f"assert {EXPORTER!r} not in sys.modules and 'opentelemetry.sdk.trace' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
