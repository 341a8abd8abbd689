"""Where a registered model's files are kept: whole or not at all, whoever fetches them at the same time."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from cutray.models.registry import FILE, _put_in_place

DATA = b"x" * 4_000_000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("before", ["", "damaged", "whole"])
def test_many_processes_may_fetch_one_model(before: str, tmp_path: Path) -> None:
    """None fails over what another one has done, and what is there in the end is whole and nothing else."""
    target = tmp_path / "shoes" / "3"
    target.parent.mkdir()
    if before:
        target.mkdir()
        (target / FILE).write_bytes(DATA if before == "whole" else b"cut off")
        (target / "old").touch()
    together = Barrier(8)

    def fetch(number: int) -> None:
        fresh = tmp_path / "shoes" / f"made-{number}" / "model"
        fresh.mkdir(parents=True)
        (fresh / FILE).write_bytes(DATA)
        together.wait(60)
        _put_in_place(fresh, target, DIGEST)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, range(8)))
    assert (target / FILE).read_bytes() == DATA
    assert (target / "old").exists() is (before == "whole")
    assert {path.name for path in target.parent.iterdir()} == {"3", *(f"made-{number}" for number in range(8))}
