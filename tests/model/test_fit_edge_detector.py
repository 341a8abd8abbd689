"""`python -m pipelines.fit_edge_detector`: scenes in, coefficients and an honest test out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cutray.errors import OutputExistsError
from cutray.matting import detect
from pipelines.fit_edge_detector.cli import fit_edge_detector
from tests.conftest import require_weights


def test_fit_writes_coefficients_that_the_library_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small fit gives a file that loads, tells its own scenes apart, and repeats exactly from the cache."""
    require_weights("u2netp")
    words = ["-n", "4", "--held-out", "1", "-m", "u2netp", "--cache", str(tmp_path / "maps")]
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    for target in (first, second):
        ran = CliRunner().invoke(fit_edge_detector, [*words, "-o", str(target)], catch_exceptions=False)
        assert ran.exit_code == 0
    # What is kept has 8-bit alphas and 16-bit maps, so the first run may differ from the second by rounding.
    numbers = [json.loads(path.read_text()) for path in (first, second)]
    assert numbers[0]["names"] == numbers[1]["names"]
    facts = json.loads(ran.stdout.splitlines()[-1])
    assert set(facts["report"]["held-out scenes"]) == set(detect.EDGE_CASES)
    monkeypatch.setattr(detect, "COEFFICIENTS", second)
    detect.load_detector.cache_clear()
    try:
        assert detect.load_detector().whole.weights.shape == (4, len(numbers[1]["names"]))
    finally:
        detect.load_detector.cache_clear()


def test_coefficients_are_not_replaced_unasked(tmp_path: Path) -> None:
    """Neither those of the package, which are the default output, nor a file: before any scene is drawn."""
    kept = tmp_path / "mine.json"
    kept.write_text("{}")
    before = detect.COEFFICIENTS.read_bytes()
    for words in ([], ["-o", str(kept)]):
        ran = CliRunner().invoke(fit_edge_detector, words)
        assert isinstance(ran.exception, OutputExistsError)
        assert "--overwrite" in ran.exception.fix
    assert kept.read_text() == "{}"
    assert detect.COEFFICIENTS.read_bytes() == before
