"""Runs batches in processes of their own, and reads what they leave."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

_S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
# For what is waited for but not measured: ten times what a machine needs whose cores are all busy.
PATIENCE_S = 1800
ROOT = Path(__file__).resolve().parents[1]


def batch_environment() -> dict[str, str]:
    """Variables for a process that may start Ray."""
    path = [str(ROOT / "platform"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def batch_command(*arguments: str | Path, model: str | Path = "u2netp") -> list[str]:
    """Command line of a batch with the small model; MNN's last digit depends on the number of threads."""
    return [sys.executable, "-m", "pipelines.batch_remove", "--threads", "2", *map(str, arguments), "-m", str(model)]


@contextmanager
def shared_ray() -> Iterator[str]:
    """Run a Ray until the block ends; yields its address.

    Its workers have the environment of this moment, not that of the batches that join it.
    """
    command = [sys.executable, "-m", "tests.ray_head"]
    for _ in range(10):  # Ray gives up after 30 s where others keep the machine busy
        process = subprocess.Popen(
            command, cwd=ROOT, env=batch_environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            if address := process.stdout.readline().strip():  # type: ignore[union-attr]
                yield address
                return
    raise AssertionError("Ray did not start")


def run_batch_command(
    *arguments: str | Path, address: str | None = None, model: str | Path = "u2netp", **more: Any
) -> tuple[int, dict[str, Any], str]:
    """Run a batch; returns exit code, the JSON line and what it told a person.

    Args:
        arguments: Of the command.
        address: Ray to join with one actor, from ``shared_ray``; by default the batch starts one of its own.
        model: Name, or path of the weights.
        more: Arguments of ``subprocess.run``.
    """
    environment = {**batch_environment(), **more.pop("env", {})}
    joined = ["--address", address, "--actors", "1"] if address else []
    done = subprocess.run(
        batch_command(*arguments, *joined, model=model),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=environment,
        **more,
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr


def write_photos(folder: Path, number: int) -> list[str]:
    """Write photos of a bright disc on a dark ground, each one different; returns their names below the folder."""
    names = []
    for index in range(number):
        name = f"{'abc'[index % 3]}/photo {index:03d}.{('jpg', 'png', 'webp')[index % 3]}"
        picture = np.full((240 + index, 320, 3), (60, 90, 40), np.uint8)
        cv2.circle(picture, (120 + index % 80, 120), 70 + index % 20, (40, 80, 240), -1, cv2.LINE_AA)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(path.suffix, picture)[1]
        path.write_bytes(encoded.tobytes())
        names.append(name)
    return names


def hash_of(data: bytes) -> str:
    """SHA-256 of a picture's pixels, of all that a shard holds, its pictures as pixels, or of anything else's bytes.

    The deflate library may, very rarely, find one match fewer: a file of other bytes with the same pixels.
    """
    if data[:4] == b"PAR1":
        return hashlib.sha256(repr(_rows_of(data)).encode()).hexdigest()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()
    except UnidentifiedImageError:
        return hashlib.sha256(data).hexdigest()


def _rows_of(table: bytes) -> list[dict[str, Any]]:
    """Rows of a Parquet file, with a hash for each picture; its length is the deflate library's business too."""
    import pyarrow.parquet as pq

    return [
        {name: hash_of(value) if isinstance(value, bytes) else value for name, value in row.items()}
        for row in pq.read_table(io.BytesIO(table)).to_pylist()
    ]


def hashes_of(folder: Path) -> dict[str, str]:
    """Hash of every result in a folder, hidden files too, the job's own notes left out."""
    return {
        path.relative_to(folder).as_posix(): hash_of(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_cutray" not in path.parts
    }


def batch_rows(target: Path) -> dict[str, dict[str, Any]]:
    """Rows of the manifest by their source."""
    import pyarrow.parquet as pq

    return {row["source"]: row for row in pq.read_table(target / "_cutray" / "manifest.parquet").to_pylist()}


@contextmanager
def served_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Callable[[str], str]]]:
    """Serve a bucket ``shop`` by S3; yields its file system and what makes addresses in it."""
    server_module = pytest.importorskip("moto.server")
    fs = pytest.importorskip("pyarrow.fs")
    for name, value in _S3_KEYS.items():
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1&allow_bucket_creation=true"
        store = fs.S3FileSystem(
            endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        store.create_dir("shop")
        store.delete_dir_contents("shop")  # all servers of a process share what they hold
        yield store, lambda path: f"s3://shop/{path}{query}"
    finally:
        server.stop()


def write_table(photos: Path, names: list[str], file: Path, rows_per_group: int = 5) -> None:
    """Write photos as rows of a Parquet file, in the form of Hugging Face datasets."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": (photos / name).read_bytes(), "path": name} for name in names]
    table = pa.table({"label": list(range(len(names))), "image": images})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=rows_per_group)


def write_tar(photos: Path, names: list[str], file: Path) -> None:
    """Write photos as the samples of a WebDataset, each with a label and a mask beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for index, name in enumerate(names):
            parts = {"json": b"{}", name.rpartition(".")[2]: (photos / name).read_bytes(), "seg.png": b"no photo"}
            for ending, data in parts.items():
                member = tarfile.TarInfo(f"{index:04d}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
