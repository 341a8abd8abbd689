"""The batch from bucket to bucket, against a server that speaks S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batches import hashes_of, run_batch_command, write_photos

pytest.importorskip("ray")
server_module = pytest.importorskip("moto.server")
fs = pytest.importorskip("pyarrow.fs")
pytestmark = pytest.mark.model
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


def test_bucket_to_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results in a bucket equal those in a folder, a second run does nothing, and a lost one is made again."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1&allow_bucket_creation=true"
        photos, local = tmp_path / "photos", tmp_path / "local"
        write_photos(photos, 6)
        store = fs.S3FileSystem(
            endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        store.create_dir("shop")
        fs.copy_files(str(photos), "shop/photos", destination_filesystem=store)
        assert run_batch_command(photos, local)[0] == 0
        source, target = f"s3://shop/photos{query}", f"s3://shop/cutouts{query}"
        code, summary, told = run_batch_command(source, target)
        assert code == 0, told
        assert summary["done"] == 6
        fs.copy_files("shop/cutouts", str(tmp_path / "back"), source_filesystem=store)
        assert hashes_of(tmp_path / "back") == hashes_of(local)
        assert run_batch_command(source, target)[1]["worked"] == 0
        store.delete_file(f"shop/cutouts/{sorted(hashes_of(local))[0]}")
        assert run_batch_command(source, target)[1]["worked"] == 1
    finally:
        server.stop()
