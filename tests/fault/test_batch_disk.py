"""A batch whose disk fails stops cleanly and can go on later."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.batches import hashes_of, run_batch_command, write_photos
from tests.disks import mounted

pytest.importorskip("ray")
pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 12)
    return folder


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("finished")
    code, _, told = run_batch_command(photos, target, "--no-report")
    assert code == 0, told
    return target


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_disk_trouble_stops_the_job(photos: Path, finished: Path, tmp_path: Path, trouble: str) -> None:
    """A full or read-only disk ends the job with a clear message and nothing half written; then it can go on."""
    with mounted(tmp_path, "size=128k" if trouble == "full" else "ro"):
        code, _, told = run_batch_command(photos, tmp_path, "--no-report")
        assert code == 1
        assert ("No space left" if trouble == "full" else "read-only file system") in told
        whole = hashes_of(finished)
        assert all(whole[name] == digest for name, digest in hashes_of(tmp_path).items())
        again = "remount,size=64m" if trouble == "full" else "remount,rw"
        subprocess.run(["mount", "-o", again, str(tmp_path)], check=True)
        assert run_batch_command(photos, tmp_path, "--no-report")[0] == 0
        assert hashes_of(tmp_path) == whole
