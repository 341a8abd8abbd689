"""Keeps the roll-out in the memory of the Ray cluster, beside Serve's own state: one lives as long as the other."""

from __future__ import annotations

import logging

# Serve keeps its state by the same functions. With Redis behind the head it outlives the head.
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from serve_apps.rollout.figures import Figures
from serve_apps.rollout.records import Rollout

_LOG = logging.getLogger("ray.serve")
_NAMESPACE = "cutray"
_ROLLOUT, _FIGURES = "rollout", "rollout-figures"


def read(rollout: bytes | None, figures: bytes | None) -> tuple[Rollout | None, Figures]:
    """Read what was kept; another version of this code may have written it, and then it is as if nothing was.

    Args:
        rollout: From ``Rollout.to_json``, or None.
        figures: From ``Figures.to_json``, or None.
    """
    try:
        return Rollout.from_json(rollout) if rollout else None, Figures.from_json(figures) if figures else Figures()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _LOG.warning("what was kept of a roll-out cannot be read, so it is over: %s", error)
        return None, Figures()


class RolloutStore:
    """The latest roll-out and its figures."""

    def load(self) -> tuple[Rollout | None, Figures]:
        """Return what was kept; None where there was no roll-out yet."""
        return read(_internal_kv_get(_ROLLOUT, namespace=_NAMESPACE), _internal_kv_get(_FIGURES, namespace=_NAMESPACE))

    def keep(self, rollout: Rollout) -> None:
        """Keep how it stands."""
        _internal_kv_put(_ROLLOUT, rollout.to_json(), overwrite=True, namespace=_NAMESPACE)

    def keep_figures(self, figures: Figures) -> None:
        """Keep its figures."""
        _internal_kv_put(_FIGURES, figures.to_json(), overwrite=True, namespace=_NAMESPACE)
