"""What is counted. Prometheus sees each name with ``ray_`` in front."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

_MS: list[float] = [5, 10, 25, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600]
_SIZES: list[float] = [1, 2, 4, 8, 16, 32, 64]


def requests_counter() -> Counter:
    """Register the answers; the Ingress and the load shedder at the proxy count them."""
    return Counter("cutray_requests_total", "Answered requests.", ("route", "status"))


def rejected_counter() -> Counter:
    """Register the refusals, which both count as well."""
    return Counter("cutray_rejected_total", "Refused requests and photos, by stable code.", ("reason",))


class IngressMetrics:
    """Requests, refusals and stages, as the Ingress sees them."""

    def __init__(self) -> None:
        """Register the names."""
        self.requests = requests_counter()
        self.rejected = rejected_counter()
        self.request_ms = Histogram("cutray_request_ms", "Milliseconds per request.", _MS, ("route",))
        self.stage_ms = Histogram("cutray_stage_ms", "Milliseconds per photo and stage.", _MS, ("stage", "model"))
        self.in_flight = Gauge("cutray_in_flight", "Photos under way in this Ingress.")
        self.retries = Counter("cutray_retries_total", "Photos that were sent again because a replica was lost.")
        self.no_subject = Counter("cutray_no_subject_total", "Photos without a subject.", ("model",))


class SegmenterMetrics:
    """Batches and the model, as a Segmenter sees them."""

    def __init__(self) -> None:
        """Register the names."""
        self.batch_size = Histogram("cutray_batch_size", "Photos per forward pass.", _SIZES, ("model",))
        self.forward_ms = Histogram("cutray_forward_ms", "Milliseconds per forward pass.", _MS, ("model",))
        self._swap_failed = Gauge("cutray_model_swap_failed", "1 while a configured model could not be loaded.")
        self._model = Gauge("cutray_model_info", "1 for the model in use.", ("name", "sha256"))
        self._failed = 0
        self._current: dict[str, str] | None = None

    def swap_failed(self) -> None:
        """Show that a configured model could not be loaded."""
        self._failed = 1
        self.repeat()

    def model(self, name: str, sha256: str) -> None:
        """Show which model is in use."""
        if self._current is not None:
            self._model.set(0, self._current)
        self._failed, self._current = 0, {"name": name, "sha256": sha256}
        self.repeat()

    def repeat(self) -> None:
        """Say again what holds: Ray forgets a gauge that was not set for some seconds."""
        self._swap_failed.set(self._failed)
        if self._current is not None:
            self._model.set(1, self._current)
