"""Histograms out of Prometheus' text, and the report about them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from cutray.errors import InputError
from cutray.evaluation.drift import BOUNDS, Fingerprint, features_of
from cutray.evaluation.drift_metrics import read_metrics
from cutray.evaluation.photo_features import PhotoFeatures

pytest.importorskip("pyarrow")
from click.testing import CliRunner

from pipelines.batch.manifest import Manifest, write_job
from pipelines.batch.storage import open_storage
from pipelines.drift.cli import drift


def metrics_text(made: Fingerprint, model: str, replica: str) -> str:
    """Write histograms as Ray's agent shows them, cumulated, with labels of the process."""
    lines = ["# HELP ray_cutray_drift_brightness Mean luma.", "# TYPE ray_cutray_drift_brightness histogram"]
    for name, counts in made.counts.items():
        for bound, count in zip([*BOUNDS[name], "+Inf"], np.cumsum(counts), strict=True):
            labels = f'Component="core_worker",WorkerId="{replica}",application="cutray",le="{bound}",model="{model}"'
            lines.append(f"ray_cutray_drift_{name}_bucket{{{labels}}} {float(count)}")
        lines.append(f'ray_cutray_drift_{name}_count{{model="{model}"}} {float(counts.sum())}')
    return "\n".join(lines) + '\nray_cutray_requests_total{route="/"} 5.0\n'


def _photos(number: int, brightness: float) -> Fingerprint:
    made = Fingerprint()
    for index in range(number):
        measured = PhotoFeatures(brightness + 0.001 * (index % 40), 300.0 + 10 * (index % 40), 2.0)
        made.add_all(features_of(measured, found=True, confidence=0.9, area=0.3))
    return made


def test_processes_are_added_up_model_by_model() -> None:
    """Two replicas of one model become one histogram, another model keeps its own, other metrics are left alone."""
    one, two, other = _photos(30, 0.2), _photos(50, 0.6), _photos(7, 0.5)
    text = metrics_text(one, "u2net", "a") + metrics_text(two, "u2net", "b") + metrics_text(other, "u2netp", "a")
    found = read_metrics(text)
    assert {name: each.photos() for name, each in found.items()} == {"u2net": 80, "u2netp": 7}
    for name, counts in found["u2net"].counts.items():
        assert counts.tolist() == (one.counts[name] + two.counts[name]).tolist()
    assert read_metrics("ray_cutray_requests_total 3\n") == {}


def test_other_buckets_are_refused() -> None:
    """Counts of an endpoint with other bounds are not compared as if they were the same."""
    text = 'ray_cutray_drift_area_bucket{le="0.3",model="m"} 3\nray_cutray_drift_area_bucket{le="+Inf",model="m"} 4\n'
    with pytest.raises(InputError, match="other buckets"):
        read_metrics(text)


class _Metrics(BaseHTTPRequestHandler):
    text = ""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _run(*arguments: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(drift, ["report", *arguments], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value, done.output.strip().splitlines()


def test_report_names_what_has_drifted(endpoint: str, tmp_path: Path) -> None:
    """Darker photos than in the reference: exit code 1, a row for each feature, the JSON line names brightness."""
    reference = tmp_path / "reference.json"
    reference.write_text(_photos(400, 0.6).as_json())
    _Metrics.text = metrics_text(_photos(300, 0.2), "shoes", "a")
    code, lines = _run("--url", endpoint, "--reference", str(reference))
    assert code == 1
    assert json.loads(lines[-1]) == {"job": "drift report", "drifted": {"shoes": ["brightness"]}}
    (row,) = (line.split() for line in lines if line.strip().startswith("brightness"))
    assert row[-1] == "drifted" and float(row[1]) > 0.55 and float(row[2]) < 0.3
    assert len([line for line in lines if line.endswith(("same", "drifted"))]) == len(_photos(1, 0.5).counts)
    _Metrics.text = metrics_text(_photos(300, 0.6), "shoes", "a")
    code, lines = _run("--url", f"{endpoint}/metrics", "--reference", str(reference))
    assert code == 0 and json.loads(lines[-1])["drifted"] == {"shoes": []}


def test_a_batch_is_read_from_its_manifest(tmp_path: Path) -> None:
    """Size, confidence, area and edge cases of the photos that were done; failed ones do not count."""
    storage = open_storage(str(tmp_path))
    rows = [
        {
            "source": f"{index}.jpg",
            "output": f"{index}.png",
            "status": "ok" if index % 10 else "no_subject",
            "width_px": 1000,
            "height_px": 1000,
            "confidence": 0.5 + 0.001 * index,
            "area_fraction": 0.2,
            "edge_cases": ["texture"] if index % 2 else [],
        }
        for index in range(200)
    ]
    Manifest(storage).append([*rows, {"source": "x.jpg", "output": "x.png", "status": "failed", "code": "decode"}])
    write_job(storage, {"model": "u2netp"})
    reference = tmp_path / "reference.json"
    reference.write_text(_photos(300, 0.5).as_json())
    code, lines = _run("--batch", str(tmp_path), "--reference", str(reference))
    assert lines[0] == "u2netp: 200 photos"
    assert {line.split()[0] for line in lines[2:-1]} == {"megapixels", "confidence", "area", "no_subject"}
    assert code == 1 and "confidence" in json.loads(lines[-1])["drifted"]["u2netp"]
    (share,) = (line.split() for line in lines if line.strip().startswith("no_subject"))
    assert share[1:5] == ["0.0", "%", "10.0", "%"]


def test_report_says_what_is_missing(endpoint: str, tmp_path: Path) -> None:
    """No photos, no metrics, no fingerprint, no batch and a wrong address are errors that say what to do."""
    _Metrics.text = metrics_text(_photos(300, 0.2), "shoes", "a")
    with pytest.raises(InputError, match="no photos of boots"):
        _run("--url", endpoint, "--model", "boots")
    with pytest.raises(InputError, match="does not answer with metrics: it has no metrics_port"):
        _run("--url", f"{endpoint}/elsewhere")
    with pytest.raises(InputError, match="http:// or https://"):
        _run("--url", "file:///etc/passwd")
    weights = tmp_path / "shoes.onnx"
    weights.write_bytes(b"weights")
    with pytest.raises(InputError, match=r"shoes\.fingerprint\.json is not there"):
        _run("--url", endpoint, "--reference", str(weights))
    with pytest.raises(InputError, match="no manifest"):
        _run("--batch", str(tmp_path))
    with pytest.raises(click.UsageError, match="give --url or --batch"):
        _run()
