"""What is counted of roll-outs. Prometheus sees each name with ``ray_`` in front."""

from __future__ import annotations

import time

from ray.util.metrics import Counter, Gauge, Histogram

from serve_apps.rollout.records import Observation, Role, Rollout, RolloutState

_MS: list[float] = [5, 10, 25, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600]
_IOU: list[float] = [0.1, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0]
# An ended roll-out is told for so long that an alert sees it, and no longer.
_TOLD_S = 3600.0


class RolloutMetrics:
    """Photos of roll-outs, as the RolloutController sees them."""

    def __init__(self) -> None:
        """Register the names."""
        self._state = Gauge(
            "cutray_rollout_state", "1 for the state of the roll-out, until an hour after its end.", ("state",)
        )
        self._photos = Counter(
            "cutray_rollout_photos_total", "Photos of the challenger, by part and outcome.", ("role", "outcome")
        )
        self._forward_ms = Histogram(
            "cutray_rollout_forward_ms", "Milliseconds of the network per photo, by side.", _MS, ("side",)
        )
        self._iou = Histogram("cutray_rollout_mask_iou", "Overlap (IoU) of the two models' masks.", _IOU)

    def add(self, seen: Observation) -> None:
        """Count what came of a photo."""
        if seen.champion_ms is not None:
            self._forward_ms.observe(seen.champion_ms, {"side": "champion"})
        if seen.challenger_ms is not None:
            self._forward_ms.observe(seen.challenger_ms, {"side": "challenger"})
        outcome = "ok" if seen.challenger_ms is not None else "dropped" if seen.dropped else seen.error
        if outcome and seen.role is not Role.CHAMPION:
            self._photos.inc(1, {"role": seen.role, "outcome": outcome})
        if seen.iou is not None:
            self._iou.observe(seen.iou)

    def tell(self, rollout: Rollout | None) -> None:
        """Say how things are; Ray forgets a gauge that was not set for some seconds."""
        told = rollout is not None and (rollout.active or time.time() - rollout.ended_at < _TOLD_S)
        for state in RolloutState:
            self._state.set(int(told and rollout is not None and rollout.state is state), {"state": state})
