"""The batch from bucket to bucket, against a server that speaks S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batches import hashes_of, run_batch_command, served_bucket, write_photos

pytest.importorskip("ray")
fs = pytest.importorskip("pyarrow.fs")
pytestmark = pytest.mark.model


def test_bucket_to_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results in a bucket equal those in a folder, a second run does nothing, and a lost one is made again."""
    photos, local = tmp_path / "photos", tmp_path / "local"
    write_photos(photos, 6)
    assert run_batch_command(photos, local)[0] == 0
    with served_bucket(monkeypatch) as (store, uri):
        fs.copy_files(str(photos), "shop/photos", destination_filesystem=store)
        code, summary, told = run_batch_command(uri("photos"), uri("cutouts"))
        assert code == 0, told
        assert summary["done"] == 6
        fs.copy_files("shop/cutouts", str(tmp_path / "back"), source_filesystem=store)
        assert hashes_of(tmp_path / "back") == hashes_of(local)
        assert run_batch_command(uri("photos"), uri("cutouts"))[1]["worked"] == 0
        store.delete_file(f"shop/cutouts/{sorted(hashes_of(local))[0]}")
        assert run_batch_command(uri("photos"), uri("cutouts"))[1]["worked"] == 1
