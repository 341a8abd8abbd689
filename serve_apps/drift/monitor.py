"""Looks at photos beside the path of requests: one thread, two photos at most that wait, and no error that gets out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread

import numpy as np
from ray.serve.handle import DeploymentHandle

from cutray.config import DriftSettings
from cutray.errors import CutrayError
from cutray.evaluation.drift import Difference, Fingerprint, compare, features_of, parse_fingerprint, read_fingerprint
from cutray.evaluation.photo_features import measure_photo
from cutray.removal import RemovalReport
from cutray.tta import Prediction
from serve_apps.drift.metrics import DriftMetrics
from serve_apps.drift.samples import SampleFolder

_LOG = logging.getLogger("ray.serve")
_WAITING = 2  # photos at full size that may wait; any more are not looked at
_CHECK_S, _EXPIRE_S = 10.0, 600.0
_RETIRE_S = 600.0  # while replicas are swapped one by one, photos go to the old network and to the new one


@dataclass(frozen=True, slots=True)
class SeenPhoto:
    """What is looked at of a photo.

    Attributes:
        image: (H, W, 3) uint8 sRGB.
        prediction: What the network says of it.
        report: What is known about its mask.
        edge_cases_known: Whether edge cases were looked for.
        identity: Of the network that made it, from ``Weights``.
    """

    image: np.ndarray
    prediction: Prediction
    report: RemovalReport
    edge_cases_known: bool
    identity: str


class DriftMonitor:
    """The histograms of one Cutter, the comparison of its latest photos with a reference, and its samples."""

    def __init__(self, settings: DriftSettings, segmenters: Mapping[str, DeploymentHandle]) -> None:
        """Start the thread, unless there is nothing to do.

        Args:
            settings: What is watched and kept.
            segmenters: Handle of the Segmenter deployment of each model; it has the fingerprint beside its weights.
        """
        self._settings, self._segmenters = settings, segmenters
        self._queue: Queue[tuple[SeenPhoto, str]] = Queue(_WAITING)
        self._references: dict[str, Fingerprint | None] = {}
        self._asked: set[asyncio.Task[None]] = set()
        self._latest: defaultdict[tuple[str, str], deque[dict[str, float]]] = defaultdict(
            lambda: deque(maxlen=settings.window_photos)
        )
        # Name of the Segmenter, and time of the latest photo.
        self._fed: dict[tuple[str, str], tuple[str, float]] = {}
        self._samples = None
        if settings.samples:
            self._samples = SampleFolder(Path(settings.samples), settings.samples_max, settings.samples_days)
        self._metrics = DriftMetrics() if settings.watch or settings.samples else None
        self._told = False
        if self._metrics is not None:
            Thread(target=self._run, args=(self._metrics,), name="drift", daemon=True).start()

    def look(self, photo: SeenPhoto, model: str) -> None:
        """Have a photo looked at, soon or never; called in the event loop, where nothing may wait.

        Args:
            photo: The photo; nothing of it is changed.
            model: Name of its Segmenter among ``segmenters``.
        """
        if self._metrics is None:
            return
        try:
            if photo.identity not in self._references:
                self._references[photo.identity] = None
                task = asyncio.get_running_loop().create_task(self._fetch_reference(photo.identity, model))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)
            self._queue.put_nowait((photo, model))
        except Full:
            self._metrics.skipped()
        except Exception as error:  # a request must never fail for this
            self._tell(error)

    async def _fetch_reference(self, identity: str, model: str) -> None:
        """Ask the Segmenter, or take the reference of the settings."""
        try:
            if self._settings.reference:
                self._references[identity] = await asyncio.to_thread(read_fingerprint, Path(self._settings.reference))
            elif text := await self._segmenters[model].fingerprint.remote():
                self._references[identity] = parse_fingerprint(text)
        except Exception as error:  # without a reference there is no comparison, and photos go on
            self._tell(error)

    def _run(self, metrics: DriftMetrics) -> None:
        """Look at photos one after the other, and now and then at all of them together."""
        checked = expired = time.monotonic() - _EXPIRE_S
        while True:
            try:
                self._see(*self._queue.get(timeout=_CHECK_S), metrics)
            except Empty:
                pass
            except Exception as error:  # whatever a photo or a full disk provokes; the next one is looked at
                self._tell(error)
            now = time.monotonic()
            try:
                if now - checked >= _CHECK_S:
                    checked = now
                    self._check(metrics)
                if self._samples is not None and now - expired >= _EXPIRE_S:
                    expired = now
                    self._samples.expire()
            except Exception as error:
                self._tell(error)

    def _see(self, photo: SeenPhoto, model: str, metrics: DriftMetrics) -> None:
        """Count a photo, and keep it if it is a sample."""
        report = photo.report
        if self._settings.watch:
            values = features_of(
                measure_photo(photo.image),
                found=report.subject_found,
                confidence=report.confidence,
                area=report.area_fraction,
                edge_cases=report.edge_cases if photo.edge_cases_known else None,
            )
            metrics.photo(values, report.model)
            self._latest[photo.identity, report.model].append(values)
            self._fed[photo.identity, report.model] = (model, time.monotonic())
        if self._samples is not None:
            self._samples.offer(photo.image, photo.prediction, report)

    def _check(self, metrics: DriftMetrics) -> None:
        """Compare the latest photos of each model with its reference, and show the result."""
        self._retire()
        found = {}
        for identity, model in sorted(self._fed, key=lambda key: self._fed[key][1]):  # the last of one name counts
            found[model] = compare_latest(self._references.get(identity), self._latest[identity, model])
        metrics.differences(found)
        if self._samples is not None:
            metrics.samples(len(self._samples.names()))

    def _retire(self) -> None:
        """Forget networks that get no photos any more because their Segmenter has another one."""
        last: dict[str, float] = {}
        for segmenter, at in self._fed.values():
            last[segmenter] = max(at, last.get(segmenter, 0.0))
        now = time.monotonic()
        for key, (segmenter, at) in list(self._fed.items()):
            if at < last[segmenter] and now - at > _RETIRE_S:
                del self._fed[key], self._latest[key]

    def _tell(self, error: Exception) -> None:
        """Count an error, and log the first one."""
        if self._metrics is not None:
            self._metrics.skipped()
        if not self._told:
            self._told = True
            known = str(error) if isinstance(error, CutrayError) else f"{type(error).__name__}: {error}"
            _LOG.warning("drift and samples: %s; further errors are only counted", known)


def compare_latest(reference: Fingerprint | None, values: deque[dict[str, float]]) -> list[Difference]:
    """Compare photos with a reference; nothing where there is none.

    Args:
        reference: Of the photos that the network was trained on.
        values: From ``features_of``, one for each photo.
    """
    if reference is None:
        return []
    live = Fingerprint()
    for one in values:
        live.add_all(one)
    return compare(reference, live)
