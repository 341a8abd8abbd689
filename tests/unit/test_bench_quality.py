"""The quality benchmark: rows as they are written, and tables that compare with the first row."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cutray.errors import OptionError
from cutray.evaluation.comparison import Case, ModelScores
from cutray.evaluation.datasets import Sample
from cutray.evaluation.metrics import score
from pipelines.bench.quality import quality
from pipelines.bench.quality_tables import SetResult, overall_table, set_table
from pipelines.bench.row_text import read_row


def _disc(radius: int) -> np.ndarray:
    """Draw a disc of ones, (64, 64) float32."""
    return cv2.circle(np.zeros((64, 64), np.float32), (32, 32), radius, 1.0, -1)


def _row(name: str, *radii: int) -> ModelScores:
    """Score discs against one of 20 pixels."""
    cases = [
        Case(Sample(f"{index}", Path("photo"), Path("truth"), frozenset()), score(_disc(radius), _disc(20)))
        for index, radius in enumerate(radii)
    ]
    return ModelScores(name, cases)


def _photos_of_discs(data: Path) -> Path:
    """Write two photos of a disc with their masks."""
    for index in range(2):
        photo = np.full((96, 96, 3), 230, np.uint8)
        cv2.circle(photo, (48, 48), 24 + 8 * index, (200, 30, 30), -1)
        mask = cv2.circle(np.zeros((96, 96), np.uint8), (48, 48), 24 + 8 * index, 255, -1)
        for folder, picture in (("images", photo), ("masks", mask)):
            (data / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(data / folder / f"{index}.png")
    return data


def test_a_row_is_a_name_and_settings() -> None:
    """Settings are as on the command line; a name alone takes the defaults."""
    assert read_row("the vote: model=u2net+isnet looks=2") == ("the vote", {"model": "u2net+isnet", "looks": 2})
    assert read_row("balanced:") == ("balanced", {})
    for wrong in (": quality=best", "best: quality"):
        with pytest.raises(OptionError, match="NAME"):
            read_row(wrong)


def test_a_table_tells_missing_from_extra_and_counts_wins() -> None:
    """A disc that is too small misses a part, one that is too large has too much; both lose to the right one."""
    result = SetResult("discs", [_row("right", 20, 20), _row("small", 14, 20), _row("large", 24, 24)])
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in set_table(result).splitlines()[4:]}
    missing, extra = 9, 10
    assert float(lines["small"][missing]) > 0.2 > float(lines["small"][extra]) == 0
    assert float(lines["large"][extra]) > 0.3 > float(lines["large"][missing]) == 0
    assert lines["small"][-1].startswith("0, 1")
    assert lines["large"][-1].startswith("0, 2")


def test_all_sets_weigh_the_same_in_the_ratio() -> None:
    """Twice the error on one set and an equal one on the other are one and a half times the error."""
    sets = [SetResult("a", [_row("base", 18), _row("same", 18)]), SetResult("b", [_row("base", 18), _row("same", 18)])]
    assert "| same | 1.000 | 1.000 |" in overall_table(sets, {"base": (1.0, 0), "same": (2.0, 5 << 20)})
    assert "2.00 | 5 |" in overall_table(sets, {"base": (1.0, 0), "same": (2.0, 5 << 20)})
    assert "| – | 5 |" in overall_table(sets, {"base": (1.0, 0), "same": (0.0, 5 << 20)})


def test_rows_run_in_processes_of_their_own(tmp_path: Path) -> None:
    """Photos are cut out by two rows; tables, pages and JSON tell the same, and nothing is replaced unasked."""
    data = _photos_of_discs(tmp_path / "discs")
    rows = ["--row", "fast: quality=fast model=u2netp-distilled", "--row", "balanced: model=u2netp-distilled"]
    targets = ["-o", str(tmp_path / "out.md"), "--pages", str(tmp_path / "pages")]
    done = CliRunner().invoke(quality, [str(data), *rows, *targets], catch_exceptions=False)
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told["sets"]["discs"]) == {"fast", "balanced"}
    assert told["sets"]["discs"]["balanced"]["iou"] > 0.9
    assert "discs, 2 photos" in (tmp_path / "out.md").read_text()
    assert "difference: red too much" in (tmp_path / "pages" / "discs.html").read_text()
    again = CliRunner().invoke(quality, [str(data), *rows, *targets])
    assert again.exit_code != 0


def test_a_run_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    """A kept mask is scored as it lies there, even a changed one; a photo that is not finished is cut out again."""
    data, kept = _photos_of_discs(tmp_path / "discs"), tmp_path / "kept"
    call = [str(data), "--row", "fast: quality=fast model=u2netp-distilled", "--keep", str(kept)]
    first = json.loads(CliRunner().invoke(quality, call, catch_exceptions=False).stdout.splitlines()[-1])
    (row,) = (kept / "discs").iterdir()
    assert sorted(path.name for path in row.iterdir()) == ["0.json", "0.png", "1.json", "1.png"]
    for name in ("0.png", "1.png"):
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(row / name)
    (row / "1.json").unlink()
    second = json.loads(CliRunner().invoke(quality, call, catch_exceptions=False).stdout.splitlines()[-1])
    assert first["sets"]["discs"]["fast"]["iou"] > 0.9
    assert 0.4 < second["sets"]["discs"]["fast"]["iou"] < 0.5


def test_a_value_for_unknown_names_its_set(tmp_path: Path) -> None:
    """A set that is not measured, or no number, is refused before anything runs."""
    for wrong in ("other=128", "128", f"{tmp_path.name}=grey"):
        done = CliRunner().invoke(quality, [str(tmp_path), "--ignore-value", wrong])
        assert isinstance(done.exception, OptionError)
