"""`cutray bench edges`: the benchmark runs end to end and its sanity rows read as they must."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipelines.bench.edge_trials import drawn_trials, pasted_trials
from pipelines.bench.edges import edges
from tests.conftest import require_weights


@pytest.fixture
def alphas(tmp_path: Path) -> Path:
    """Return a folder with one photo of a white disc and its alpha."""
    rows, columns = np.mgrid[0:160, 0:200]
    alpha = np.clip(50.5 - np.hypot(rows - 80, columns - 100), 0, 1)
    for name, pixels in (("images", np.repeat(alpha[..., None], 3, 2)), ("masks", alpha)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(tmp_path / "set" / name / "disc.png")
    return tmp_path / "set"


def test_benchmark_writes_tables_and_pictures(alphas: Path, tmp_path: Path) -> None:
    """Every row meets every case; the truth is always right and that of another scene never."""
    require_weights("u2netp")
    page, sheet = tmp_path / "page.md", tmp_path / "sheet.jpg"
    words = ["-n", "2", "--side", "160", "-m", "u2netp", "--row", "ours: solid_interior=false", "-o", str(page)]
    ran = CliRunner().invoke(edges, [*words, "--alphas", str(alphas), "--pictures", str(sheet)], catch_exceptions=False)
    assert ran.exit_code == 0
    facts = json.loads(ran.stdout.splitlines()[-1])
    assert set(facts["done_right"]) == {"ours"}
    text = page.read_text()
    truth = next(line for line in text.splitlines() if line.startswith("| truth |"))
    wrong = next(line for line in text.splitlines() if line.startswith("| truth of another scene |"))
    assert truth.count("100 [100, 100]") == 6
    assert wrong.count("0 [0, 0]") == 6 and "100" not in wrong
    assert Image.open(sheet).width > 1000


def test_a_case_alone_needs_no_controls(tmp_path: Path) -> None:
    """Rings and chains are drawn without the other cases; the truth keeps their holes open."""
    page = tmp_path / "page.md"
    words = [
        "-n",
        "3",
        "--side",
        "160",
        "--case",
        "reflectivity",
        "--row",
        "ours: model=u2netp-distilled",
        "-o",
        str(page),
    ]
    ran = CliRunner().invoke(edges, words, catch_exceptions=False)
    assert set(json.loads(ran.stdout.splitlines()[-1])["done_right"]["ours"]) == {"reflectivity"}
    text = page.read_text()
    assert "## Controls" not in text and "## ordinary" not in text
    errors = text.split("## reflectivity")[1].splitlines()
    heading, truth = (next(line for line in errors if line.startswith(start)) for start in ("| row", "| truth |"))
    assert heading.endswith("holes kept open |") and truth.endswith("| 1.000 |")


def test_empty_scenes_alone_are_counted(tmp_path: Path) -> None:
    """They have no alpha to compare with: the page and the last line tell how many were left empty."""
    page = tmp_path / "page.md"
    words = ["-n", "1", "--side", "160", "--case", "empty", "--row"]
    ran = CliRunner().invoke(edges, [*words, "ours: model=u2netp-distilled", "-o", str(page)], catch_exceptions=False)
    facts = json.loads(ran.stdout.splitlines()[-1])
    assert facts["done_right"] == {"ours": {}} and facts["left_empty"]["ours"] in (0.0, 1.0)
    text = page.read_text()
    assert "## Done right" not in text
    assert "| row | empty scenes left empty |" in text and "| truth | 100 % |" in text


def test_trials_are_frozen(alphas: Path) -> None:
    """The same arguments give the same pictures, however many scenes are asked for."""
    few = {trial.name: trial for trial in drawn_trials(1, 96, "test")}
    more = {trial.name: trial for trial in drawn_trials(2, 96, "test")}
    assert len(more) == 2 * len(few)
    assert all(np.array_equal(few[name].image, more[name].image) for name in few)
    alone = list(drawn_trials(2, 96, "test", ("reflectivity",)))
    assert [trial.name for trial in alone] == ["reflectivity-000", "reflectivity-001"]
    assert all(np.array_equal(trial.image, more[trial.name].image) for trial in alone)
    first, again = (list(pasted_trials(alphas, 2, 128, "test")) for _ in range(2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].image, first[1].image)
