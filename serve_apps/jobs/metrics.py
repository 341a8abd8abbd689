"""What is counted of jobs. Prometheus sees each name with ``ray_`` in front."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from serve_apps.jobs.records import JobState


class JobMetrics:
    """Jobs, their photos and their webhooks, as the JobRunner sees them."""

    def __init__(self) -> None:
        """Register the names."""
        self._jobs = Gauge("cutray_jobs", "Jobs that are kept, by state.", ("state",))
        self._age = Gauge("cutray_job_queue_age_s", "Seconds that the oldest queued job has waited.")
        self.photos = Counter("cutray_job_photos_total", "Photos of jobs that are done, by status.", ("status",))
        self.attempts = Counter("cutray_job_restarts_total", "Processes of jobs that ended before their job.")
        self.webhooks = Counter("cutray_webhook_attempts_total", "Webhooks that were sent, by outcome.", ("outcome",))

    def tell(self, counts: dict[str, int], queue_age_s: float) -> None:
        """Say how many jobs there are; Ray forgets a gauge that was not set for some seconds."""
        for state in JobState:
            self._jobs.set(counts.get(state, 0), {"state": state})
        self._age.set(queue_age_s)
