"""`python -m pipelines.train_refiner`: pictures with exact alphas in, out comes a refiner that can be measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from click.testing import CliRunner

from pipelines.bench.edges import edges
from pipelines.train_refiner.cli import train_refiner
from pipelines.train_refiner.examples import Example
from tests.conftest import require_weights
from tests.scenes import write_pairs


def test_a_refiner_is_trained_gone_on_with_and_measured(tmp_path: Path) -> None:
    """All kinds of examples take part, examples and weights are used again, and the file can be measured."""
    require_weights("u2net")
    require_weights("u2netp")
    write_pairs(tmp_path / "photos", 2, side_px=160)
    disc = np.zeros((64, 64, 4), np.uint8)
    disc[16:48, 16:48] = (200, 40, 40, 255)
    (tmp_path / "cutouts").mkdir()
    Image.fromarray(disc).save(tmp_path / "cutouts" / "disc.png")
    kept, weights, file = tmp_path / "kept", tmp_path / "refiner.safetensors", tmp_path / "refiner.onnx"
    words = ["--photos", tmp_path / "photos", "--cutouts", tmp_path / "cutouts", "--examples", kept, "-n", 8]
    words += ["--set", "steps=2", "--set", "batch_size=2", "--set", "crop_px=64", "--weights", weights, "-o", file]
    first = CliRunner().invoke(train_refiner, [str(word) for word in words], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert json.loads(first.output.strip().splitlines()[-1])["bytes"] == file.stat().st_size
    made = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    kinds = [name.split("-")[1].split(".")[0] for name in sorted(made)]
    assert kinds == ["ordinary", "fine_detail", "transparency", "reflectivity", "texture", "photo", "photo", "cutout"]
    cutout = Example.load(kept / "00007-cutout.npz")
    assert cutout.image.shape == (*cutout.target.shape, 3) and 0 < cutout.target.mean() < 255

    again = CliRunner().invoke(
        train_refiner, [str(word) for word in (*words, "--init", weights, "--overwrite")], catch_exceptions=False
    )
    assert again.exit_code == 0, again.output
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == made

    measure = ["-n", "1", "--side", "128", "--row", "defaults:", "--refiner", str(file)]
    table = CliRunner().invoke(edges, measure, catch_exceptions=False)
    assert table.exit_code == 0, table.output
    rows = json.loads(table.output.strip().splitlines()[-1])["done_right"]
    assert {f"refined: {route}" for route in ("always", "heuristic", "learned", "oracle")} < rows.keys()
