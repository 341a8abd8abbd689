"""The batch from bucket to bucket, against a server that speaks S3."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cutray.errors import InputError
from pipelines.batch.sources import list_photos
from tests.batches import hashes_of, run_batch_command, served_bucket, write_photos

pytest.importorskip("ray")
fs = pytest.importorskip("pyarrow.fs")
pytestmark = pytest.mark.model


def test_bucket_to_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results in a bucket equal those in a folder, a second run does nothing, and a lost one is made again."""
    photos, local = tmp_path / "photos", tmp_path / "local"
    write_photos(photos, 6)
    assert run_batch_command(photos, local, "--quality", "fast")[0] == 0
    with served_bucket(monkeypatch) as (store, uri):
        fs.copy_files(str(photos), "shop/photos", destination_filesystem=store)
        code, summary, told = run_batch_command(uri("photos"), uri("cutouts"), "--quality", "fast")
        assert code == 0, told
        assert summary["done"] == 6
        fs.copy_files("shop/cutouts", str(tmp_path / "back"), source_filesystem=store)
        assert hashes_of(tmp_path / "back") == hashes_of(local)
        assert run_batch_command(uri("photos"), uri("cutouts"), "--quality", "fast")[1]["worked"] == 0
        store.delete_file(f"shop/cutouts/{sorted(hashes_of(local))[0]}")
        assert run_batch_command(uri("photos"), uri("cutouts"), "--quality", "fast")[1]["worked"] == 1


def test_the_endpoint_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL is enough for a server that is not Amazon's; a bucket that is not there is told."""
    with served_bucket(monkeypatch) as (store, uri):
        with store.open_output_stream("shop/single/a.jpg") as file:
            file.write(b"photo")
        (place,) = parse_qs(urlsplit(uri("single")).query)["endpoint_override"]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{place}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        assert [photo.key for photo in list_photos("s3://shop/single").photos] == ["a.jpg"]
        with pytest.raises(InputError, match="no photos in"):
            list_photos("s3://shop-that-is-not-there/photos")


def test_a_dead_endpoint_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is an error that names what to check."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(InputError, match="AWS_ENDPOINT_URL"):
        list_photos("s3://shop/photos?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
