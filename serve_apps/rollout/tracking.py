"""Writes roll-outs down in MLflow, from a thread of its own: no decision waits for a server."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cutray.errors import CutrayError
from cutray.models.registry import client
from cutray.training.tracking import Tracker, close_run, open_run
from serve_apps.rollout.records import Rollout

_LOG = logging.getLogger("ray.serve")
EXPERIMENT = "rollouts"
_VARIABLE = "MLFLOW_TRACKING_URI"


class RolloutTracker:
    """One run for each roll-out: its rules, its figures, and its end with the reason."""

    def __init__(self) -> None:
        """Find out where runs are kept; without an address of MLflow in the environment nowhere."""
        self._uri = os.environ.get(_VARIABLE, "")
        self._pool = ThreadPoolExecutor(1, "rollout-tracking")
        self._runs: dict[str, str] = {}

    def note(self, rollout: Rollout, figures: dict[str, float]) -> None:
        """Write down how it stands; returns at once."""
        if self._uri:
            self._pool.submit(self._write, rollout, figures)

    def _write(self, rollout: Rollout, figures: dict[str, float]) -> None:
        """Write to the run of a roll-out, and end it with the roll-out."""
        try:
            run_id = self._runs.get(rollout.rollout_id) or self._find(rollout)
            if run_id is None:
                return
            self._runs[rollout.rollout_id] = run_id
            tracker = Tracker((self._uri, run_id))
            tracker.log(figures, int((rollout.ended_at or time.time()) - rollout.started_at))
            tracker.close()
            store = client(self._uri)
            for name, value in _tags(rollout).items():
                store.set_tag(run_id, name, value)
            if not rollout.active:
                self._close(rollout, figures, run_id)
        except Exception as error:  # the outer edge of tracking: a roll-out goes on without it
            told = str(error) if isinstance(error, CutrayError) else type(error).__name__
            _LOG.warning("the roll-out is not tracked: %s", told)

    def _find(self, rollout: Rollout) -> str | None:
        """Return the run of a roll-out, of a predecessor of this process too; open one if there is none."""
        store = client(self._uri)
        if experiment := store.get_experiment_by_name(EXPERIMENT):
            query = f"tags.rollout_id = '{rollout.rollout_id}'"
            for run in store.search_runs([experiment.experiment_id], query):
                return str(run.info.run_id)
        asked = rollout.request
        shares = {"shadow": asked.shadow, "canary": asked.canary}
        return open_run(
            self._uri,
            EXPERIMENT,
            rollout.rollout_id,
            {"model": rollout.model, "challenges": rollout.challenges, **shares, **asked.rules.model_dump()},
            _tags(rollout),
        )

    def _close(self, rollout: Rollout, figures: dict[str, float], run_id: str) -> None:
        """End the run, with all that is known of the roll-out as a file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rollout.json"
            path.write_text(json.dumps({**rollout.to_dict(), "figures": figures}, indent=2), encoding="utf-8")
            close_run(self._uri, run_id, "FINISHED", [path])


def _tags(rollout: Rollout) -> dict[str, str]:
    """Return what the run is found by."""
    facts: dict[str, Any] = {
        "rollout_id": rollout.rollout_id,
        "state": rollout.state,
        "reason": rollout.reason,
        "model": rollout.model,
        "challenges": rollout.challenges,
        "sha256": rollout.sha256,
    }
    return {name: str(value)[:5000] for name, value in facts.items()}
