"""What is noted of photos beside the path of requests: bounded, and no request can fail for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from cutray.config import DriftSettings
from cutray.errors import ConfigError
from cutray.evaluation.drift import Fingerprint, features_of
from cutray.evaluation.photo_features import PhotoFeatures
from cutray.removal import RemovalReport
from cutray.tta import Prediction
from serve_apps.drift import monitor as monitor_module
from serve_apps.drift.monitor import DriftMonitor, SeenPhoto, compare_latest
from serve_apps.drift.options import lay_over, take_sample_options
from serve_apps.drift.samples import SampleFolder

_PATIENCE_S = 60
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
PREDICTION = Prediction(np.full((16, 16), 0.3, np.float32), 16, 1)
REPORT = RemovalReport(True, 0.4, 0.2, 60, 40, (0, 0, 60, 40), "u2netp", "test")


class Segmenters:
    """Stands where Serve's handle is: answers with a fingerprint, or fails as a lost replica does."""

    def __init__(self, text: str | None) -> None:
        """Keep the answer; None fails."""
        self.text, self.asked = text, 0
        self.fingerprint = self

    async def remote(self) -> str:
        """Answer."""
        self.asked += 1
        if self.text is None:
            raise RuntimeError("the replica died")
        return self.text


def _seen(number: int = 0) -> SeenPhoto:
    return SeenPhoto(np.roll(IMAGE, number, axis=0), PREDICTION, REPORT, False, "sha")


def _look(monitor: DriftMonitor, photos: list[SeenPhoto], pause_s: float = 0.0) -> None:
    async def run() -> None:
        for photo in photos:
            monitor.look(photo, "u2netp")
            await asyncio.sleep(pause_s)
        await asyncio.gather(*monitor._asked)

    asyncio.run(run())


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_photos_are_counted_and_kept(tmp_path: Path) -> None:
    """A photo is counted under its model, the reference is asked for once, and a sample is written."""
    handle: Any = Segmenters(Fingerprint(made_from="training").as_json())
    monitor = DriftMonitor(DriftSettings(samples=str(tmp_path)), {"u2netp": handle})
    _look(monitor, [_seen(), _seen(1)], pause_s=0.2)
    _wait_for(lambda: len(monitor._latest["sha", "u2netp"]) == 2)
    _wait_for(lambda: len(SampleFolder(tmp_path, 9, 9).names()) == 2)
    assert handle.asked == 1
    assert monitor._references["sha"] is not None and monitor._references["sha"].made_from == "training"
    assert monitor._latest["sha", "u2netp"][0]["confidence"] == 0.4


@pytest.mark.parametrize("text", [None, "", "no fingerprint"])
def test_without_a_reference_photos_are_counted_all_the_same(text: str | None) -> None:
    """A model without a fingerprint, a damaged one and a lost replica disturb nothing."""
    handle: Any = Segmenters(text)
    monitor = DriftMonitor(DriftSettings(), {"u2netp": handle})
    _look(monitor, [_seen()])
    _wait_for(lambda: len(monitor._latest["sha", "u2netp"]) == 1)
    assert monitor._references == {"sha": None}


class SlowPixels(np.ndarray):
    """Pixels that cannot be looked at before ``held`` is set."""

    held = threading.Event()

    def __getitem__(self, key: Any) -> Any:
        """Wait, then look."""
        self.held.wait(_PATIENCE_S)
        return np.asarray(self)[key]


def test_requests_never_wait_and_never_fail(tmp_path: Path) -> None:
    """While a photo takes long only two more wait, the others are let go at once; a disk's error stays inside."""
    (tmp_path / "images").write_text("no folder")
    handle: Any = Segmenters("")
    monitor = DriftMonitor(DriftSettings(samples=str(tmp_path)), {"u2netp": handle})
    slow = SeenPhoto(IMAGE.view(SlowPixels), PREDICTION, REPORT, False, "sha")
    _look(monitor, [slow] * 50)
    assert 1 <= monitor._queue.qsize() <= 2
    SlowPixels.held.set()
    _wait_for(lambda: monitor._queue.empty() and monitor._told)
    _look(monitor, [_seen()])
    _wait_for(lambda: 3 <= len(monitor._latest["sha", "u2netp"]) <= 4)


def test_nothing_is_kept_unless_asked_for() -> None:
    """Samples are off by default; with the watch off as well there is not even a thread."""
    assert DriftSettings().samples == ""
    before = threading.active_count()
    monitor = DriftMonitor(DriftSettings(watch=False), {})
    monitor.look(_seen(), "u2netp")
    assert threading.active_count() == before and monitor._queue.empty()


def test_the_latest_photos_are_compared() -> None:
    """Where there is no reference there is no verdict; with one, darker photos have drifted."""
    reference, values = Fingerprint(), deque[dict[str, float]](maxlen=200)
    for index in range(300):
        shade = 0.001 * (index % 100)
        reference.add_all(features_of(PhotoFeatures(0.6 + shade, 300, 2), found=True, confidence=0.9, area=0.3))
        values.append(features_of(PhotoFeatures(0.3 + shade, 300, 2), found=True, confidence=0.9, area=0.3))
    assert compare_latest(None, values) == []
    assert {one.feature for one in compare_latest(reference, values) if one.verdict == "drifted"} == {"brightness"}


class Shown:
    """Stands where Ray's gauge is: keeps what it was set to."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Keep a value."""
        self.values[tags["feature"], tags["model"]].append(value)

    def last(self, model: str) -> float | None:
        """Return what is shown of the brightness of a model's photos."""
        return next(reversed(self.values["brightness", model]), None)


def _watched(monkeypatch: pytest.MonkeyPatch, handle: Any) -> tuple[DriftMonitor, Shown]:
    """Return a monitor that compares all the time, and what it shows as its verdicts."""
    monkeypatch.setattr(monitor_module, "_CHECK_S", 0.02)
    monkeypatch.setattr(monitor_module, "_RETIRE_S", 0.5)
    monitor, shown = DriftMonitor(DriftSettings(), {"u2netp": handle}), Shown()
    assert monitor._metrics is not None
    monkeypatch.setattr(monitor._metrics, "_verdict", shown)
    return monitor, shown


def _look_until(monitor: DriftMonitor, identity: str, model: str, condition: Callable[[], bool]) -> None:
    """Send photos that one network was given, until something is so."""
    photo = SeenPhoto(IMAGE, PREDICTION, replace(REPORT, model=model), False, identity)
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        _look(monitor, [photo] * 2, pause_s=0.01)


def _brighter() -> Fingerprint:
    """Return the reference of a model that was trained on brighter photos."""
    reference = Fingerprint()
    for index in range(300):
        features = PhotoFeatures(0.9 + 0.0005 * (index % 100), 300, 2)
        reference.add_all(features_of(features, found=True, confidence=0.4, area=0.2))
    return reference


def test_a_model_that_is_replaced_is_not_shown_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the next version has its photos, the verdict of the one before becomes 0, once; its own stays."""
    monitor, shown = _watched(monkeypatch, Segmenters(_brighter().as_json()))
    _look_until(monitor, "old", "shoes/7", lambda: shown.last("shoes/7") == 2)
    time.sleep(1)
    assert shown.last("shoes/7") == 2  # without photos it stays, for nothing has replaced it
    _look_until(monitor, "new", "shoes/8", lambda: shown.last("shoes/7") == 0)
    _look_until(monitor, "new", "shoes/8", lambda: shown.last("shoes/8") == 2)
    values = shown.values["brightness", "shoes/7"]
    assert values[values.index(2) :].count(0) == 1
    assert list(monitor._fed) == list(monitor._latest) == [("new", "shoes/8")]


def test_other_weights_do_not_keep_the_verdict_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights without a fingerprint under the same name have no verdict, and not that of those before them."""
    handle = Segmenters(_brighter().as_json())
    monitor, shown = _watched(monkeypatch, handle)
    _look_until(monitor, "old", "mine", lambda: shown.last("mine") == 2)
    handle.text = ""
    _look_until(monitor, "new", "mine", lambda: shown.last("mine") == 0)


def test_options_go_over_the_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given on the command line wins, paths become absolute, the folder is made, wrong values are refused."""
    monkeypatch.chdir(tmp_path)
    options = {"model": "u2net", "samples": "kept", "samples_max": None, "samples_days": 3.0}
    given = take_sample_options(options)
    assert options == {"model": "u2net"} and given == {"samples": "kept", "samples_days": 3.0}
    config = {"applications": [{"args": {"drift": {"samples_max": 7, "reference": "r.json"}}}]}
    drift = lay_over(config, given)["applications"][0]["args"]["drift"]
    assert drift["samples"] == str(tmp_path / "kept") and (tmp_path / "kept").is_dir()
    assert (drift["samples_max"], drift["samples_days"]) == (7, 3.0)
    assert drift["reference"] == str(tmp_path / "r.json")
    plain: dict[str, Any] = {"applications": [{"args": {}}]}
    assert lay_over(plain, {}) == {"applications": [{"args": {}}]}
    with pytest.raises(ConfigError, match="samples_days"):
        lay_over(plain, {"samples_days": -1.0})
