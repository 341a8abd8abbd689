"""Keeps the roll-out in the memory of the Ray cluster, beside Serve's own state: one lives as long as the other."""

from __future__ import annotations

# Serve keeps its state by the same functions. With Redis behind the head it outlives the head.
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from serve_apps.rollout.figures import Figures
from serve_apps.rollout.records import Rollout

_NAMESPACE = "cutray"
_ROLLOUT, _FIGURES = "rollout", "rollout-figures"


class RolloutStore:
    """The latest roll-out and its figures."""

    def load(self) -> tuple[Rollout | None, Figures]:
        """Return what was kept; None where there was no roll-out yet."""
        rollout = _internal_kv_get(_ROLLOUT, namespace=_NAMESPACE)
        figures = _internal_kv_get(_FIGURES, namespace=_NAMESPACE)
        return Rollout.from_json(rollout) if rollout else None, Figures.from_json(figures) if figures else Figures()

    def keep(self, rollout: Rollout) -> None:
        """Keep how it stands."""
        _internal_kv_put(_ROLLOUT, rollout.to_json(), overwrite=True, namespace=_NAMESPACE)

    def keep_figures(self, figures: Figures) -> None:
        """Keep its figures."""
        _internal_kv_put(_FIGURES, figures.to_json(), overwrite=True, namespace=_NAMESPACE)
