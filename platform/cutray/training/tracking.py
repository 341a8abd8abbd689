"""Writes a run down in MLflow. Training never waits for it and never fails because of it."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

from cutray import __version__
from cutray.imaging.files import write_atomically
from cutray.models.registry import client, open_experiment

_CLOSE_AFTER_S = 30.0


class Tracker:
    """Sends figures to one MLflow run from a thread of its own; what cannot be sent is dropped with one warning."""

    def __init__(self, target: tuple[str, str] | None, *, machine: bool = False) -> None:
        """Begin.

        Args:
            target: Address of the store and id of the run, from ``open_run``; None keeps silent.
            machine: Have MLflow note the use of this machine as well.
        """
        self._target, self._machine = target, machine
        self._queue: Queue[tuple[dict[str, float], int] | None] = Queue()
        self._thread = Thread(target=self._send, name="tracking", daemon=True)
        if target is not None:
            self._thread.start()

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Note some figures; returns at once."""
        if self._target is not None:
            self._queue.put((dict(figures), step))

    def close(self) -> None:
        """Wait, not for long, until all is sent."""
        if self._target is not None:
            self._queue.put(None)
            self._thread.join(_CLOSE_AFTER_S)

    def _send(self) -> None:
        """Send until told to stop."""
        if self._target is None:
            return
        uri, run_id = self._target
        store = client(uri)
        with _machine_watched(uri, run_id) if self._machine else contextlib.nullcontext():
            while (item := self._queue.get()) is not None:
                try:
                    store.log_batch(run_id, metrics=[_metric(name, value, item[1]) for name, value in item[0].items()])
                except Exception as error:  # the outer edge of tracking: a run goes on without it
                    warnings.warn(f"MLflow at {uri} does not answer, the rest is not tracked: {error}", stacklevel=1)
                    return


@contextlib.contextmanager
def _machine_watched(uri: str, run_id: str) -> Iterator[None]:
    """Have MLflow note the use of this machine during the block; that of GPUs if nvidia-ml-py is installed."""
    monitor: Any = None
    try:
        from mlflow.system_metrics import system_metrics_monitor

        # It says on the console that it begins and ends, and that there is no GPU.
        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        create: Any = system_metrics_monitor.SystemMetricsMonitor
        monitor = create(run_id, resume_logging=True, tracking_uri=uri)
        monitor.start()
    except Exception as error:  # the outer edge of tracking: a run goes on without it
        warnings.warn(f"the machine's use is not tracked: {error}", stacklevel=1)
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()


def open_run(uri: str, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str | None:
    """Create a run with its parameters.

    Args:
        uri: Address of the store.
        experiment: Name of the experiment, created if there is none.
        name: Name of the run.
        params: Settings, flat.
        tags: Revision, data and the like.

    Returns:
        The run's id, or None when the store does not answer; a warning says why.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    store = client(uri)
    try:
        run = store.create_run(open_experiment(store, uri, experiment), run_name=name, tags={**_origin(), **tags})
        store.log_batch(run.info.run_id, params=[_param(key, value) for key, value in params.items()])
    except Exception as error:  # the outer edge of tracking: a run goes on without it
        warnings.warn(f"MLflow at {uri} does not answer, the run is not tracked: {error}", stacklevel=2)
        return None
    return str(run.info.run_id)


def _origin() -> dict[str, str]:
    """Name the versions that a run is made with, and the commit of the folder it is started in, if that has one."""
    from importlib.metadata import PackageNotFoundError, version

    from mlflow.utils.git_utils import get_git_commit
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

    commit = get_git_commit(str(Path.cwd()))
    tags = {}
    for package in ("ray", "torch"):
        with contextlib.suppress(PackageNotFoundError):  # an endpoint need not have PyTorch
            tags[f"{package}_version"] = version(package)
    return tags | {"cutray_version": __version__} | ({MLFLOW_GIT_COMMIT: commit} if commit else {})


def reopen_run(uri: str, run_id: str) -> bool:
    """Take up a run again; tell whether the store has it."""
    try:
        client(uri).update_run(run_id, status="RUNNING")
    except Exception:  # the outer edge of tracking: a new run is opened instead
        return False
    return True


def take_up_run(
    note: Path, uri: str, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> str | None:
    """Go on in the run that a file names, if the store still has it; else open one and name it there.

    Args:
        note: File in the folder of the run or sweep.
        uri: Address of the store; a run of another one is not taken up.
        experiment: As for ``open_run``, like the rest.
        name: Name of the run.
        params: Settings, flat.
        tags: Revision, data and the like.

    Returns:
        The run's id, or None when the store does not answer.
    """
    if note.is_file():
        known = json.loads(note.read_text())
        if known["uri"] == uri and reopen_run(uri, known["run_id"]):
            return str(known["run_id"])
    run_id = open_run(uri, experiment, name, params, tags)
    if run_id is not None:
        write_atomically(note, json.dumps({"uri": uri, "run_id": run_id}).encode(), overwrite=True)
    return run_id


def close_run(uri: str, run_id: str, status: str, files: Sequence[Path]) -> None:
    """End a run and keep some files with it; a store that does not answer is a warning."""
    keep_files(uri, run_id, files)
    with contextlib.suppress(Exception):
        client(uri).set_terminated(run_id, status)


def keep_files(uri: str, run_id: str, files: Sequence[Path]) -> None:
    """Keep files with a run; a store that does not answer is a warning."""
    store = client(uri)
    try:
        for path in files:
            store.log_artifact(run_id, str(path))
    except Exception as error:  # the outer edge of tracking
        warnings.warn(f"MLflow at {uri} has not kept the files: {error}", stacklevel=2)


def close_children(uri: str, parent: str, experiment: str, ends: Mapping[str, str]) -> None:
    """Give the runs below another one the ending that is known of them.

    A trial that a scheduler stops is killed: its run is left as running, or as failed, which it is not.

    Args:
        uri: Address of the store.
        parent: The run that they belong to.
        experiment: Name of their experiment.
        ends: Status by the value of their tag ``trial``; those of others become KILLED.
    """
    store = client(uri)
    try:
        query = f"tags.mlflow.parentRunId = '{parent}'"
        for run in store.search_runs([open_experiment(store, uri, experiment)], query):
            status = ends.get(run.data.tags.get("trial", ""), "KILLED")
            if run.info.status != status:
                store.set_terminated(run.info.run_id, status)
    except Exception as error:  # the outer edge of tracking
        warnings.warn(f"MLflow at {uri} has not closed the runs of the trials: {error}", stacklevel=2)


def _param(key: str, value: Any) -> Any:
    """Make one parameter of a run."""
    from mlflow.entities import Param

    return Param(key, str(value))


def _metric(name: str, value: float, step: int) -> Any:
    """Make one measured value of a run."""
    from mlflow.entities import Metric

    return Metric(name, value, int(time.time() * 1000), step)
