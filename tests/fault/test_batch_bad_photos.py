"""Bad files among good ones end as rows, exactly those, and the job ends well."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.batches import batch_rows, run_batch_command, write_photos

pytest.importorskip("ray")
PHOTOS, PLANTED = 198, 2


def test_one_percent_of_bad_files(tmp_path: Path) -> None:
    """Of 200 files exactly the planted ones fail, each with a reason, and a tolerance of 1 % accepts them."""
    photos, target = tmp_path / "photos", tmp_path / "out"
    names = write_photos(photos, PHOTOS)
    chance = random.Random(1)
    planted = [f"{'abc'[chance.randrange(3)]}/bad {index}.jpg" for index in range(PLANTED)]
    whole = (photos / names[0]).read_bytes()
    (photos / planted[0]).write_bytes(whole[: chance.randrange(20, len(whole) // 2)])
    (photos / planted[1]).write_bytes(chance.randbytes(5000))
    code, summary, told = run_batch_command(photos, target, "--no-report", "--max-failures", "1%")
    assert code == 0, told
    assert (summary["done"], summary["failed"]) == (PHOTOS, PLANTED)
    failed = {source: row for source, row in batch_rows(target).items() if row["status"] != "ok"}
    assert set(failed) == set(planted)
    assert all(row["code"] and row["reason"] for row in failed.values())
    assert run_batch_command(photos, target, "--no-report", "--max-failures", "0.5%")[0] == 1
