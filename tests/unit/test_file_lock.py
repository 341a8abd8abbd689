"""Locks between processes, and what becomes of them where the system has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutray import file_lock
from cutray.errors import OutputError
from cutray.file_lock import lock_file

pytest.importorskip("pyarrow")


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second descriptor gets the lock when the first is closed, and not before."""
    with (tmp_path / "lock").open("wb") as second:
        with (tmp_path / "lock").open("wb") as first:
            assert lock_file(first, wait=False) is True
            assert lock_file(second, wait=False) is False
        assert lock_file(second, wait=True) is True


def test_a_batch_goes_on_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs at once are refused where that can be seen; a system without locks still runs batches."""
    from pipelines.batch.lock import exclusive_lock
    from pipelines.batch.storage import LocalStorage

    target = LocalStorage(str(tmp_path))
    with exclusive_lock(target), pytest.raises(OutputError, match="another job"), exclusive_lock(target):
        pass
    monkeypatch.setattr(file_lock, "fcntl", None)
    with exclusive_lock(target), exclusive_lock(target):
        pass
