"""What is told of photos that a batch has skipped: they have no size, no confidence and no result."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from pipelines.batch.manifest import PhotoStatus
from pipelines.batch.progress import BatchProgress
from pipelines.batch.run import _tell
from pipelines.batch.storage import open_storage
from pipelines.demo import _rows


@pytest.mark.parametrize(("skipped", "told"), [(0, False), (3, True)])
def test_skipped_photos_are_in_the_last_line(
    skipped: int, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All photos of the source are accounted for; what did not happen is not mentioned."""
    summary = {"done": 5, "no_subject": 1, "skipped": skipped, "failed": 0, "photos_per_s": None}
    _tell(summary, BatchProgress(worked=9), open_storage(str(tmp_path)))
    line = capsys.readouterr().err
    assert (f" {skipped} skipped as results" in line) is told


def test_the_demo_says_why_a_photo_was_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result of Cutray's own among the photos is no photo without a subject."""
    row = {"source": "yours/a.png", "output": "yours/a.png", "status": PhotoStatus.SKIPPED, "reason": "made by Cutray"}
    blank = dict.fromkeys(("width_px", "height_px", "confidence", "seconds"))
    assert list(_rows([row | blank], tmp_path, tmp_path)) == []
    assert capsys.readouterr().err == "  a: made by Cutray\n"
