"""Tells the loss of a replica from an error of the work itself, and who goes first on a full machine."""

from __future__ import annotations

import os

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

_DEEPEST = 12
_NICENESS = 5


def lower_priority() -> None:
    """Let Ingress and proxy go first where cores are scarce, so that refusals and /health come at once."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def replica_lost(error: BaseException | None) -> bool:
    """Return whether a call failed because a process died; the work is a pure function and can be sent again."""
    return _caused_by(error, (RayActorError, DeploymentUnavailableError))


def queue_full(error: BaseException | None) -> bool:
    """Return whether a call was refused because too many are waiting."""
    return _caused_by(error, (BackPressureError,))


def _caused_by(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> bool:
    """Look at the whole chain: a loss further down comes wrapped in errors of Serve."""
    for _ in range(_DEEPEST):
        if error is None or isinstance(error, kinds):
            return error is not None
        inner = getattr(error, "cause", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return False
