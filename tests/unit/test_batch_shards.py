"""Results that share a file: which one each goes to, and what is in it."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

import pytest

pytest.importorskip("pyarrow")

import pyarrow.parquet as pq

from cutray.config import BatchSettings, RemoverSettings
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import ManifestEntry
from pipelines.batch.photo import Photo
from pipelines.batch.plan import make_plan
from pipelines.batch.shards import HashingWriter, fill_shard, name_shards, sample_names

JOB = BatchJob("photos", "shards", RemoverSettings(), BatchSettings(sink="webdataset"), settings_hash="s1")
PHOTOS = [Photo(f"p{n}", f"p{n}", 10, 1000) for n in range(5)]
DONE = ManifestEntry("s-0.tar", "ok", 10, 1000, "in", 20, "out", None, 500, "whole", "s1")


def test_shards_are_named_after_their_file() -> None:
    """Photos of one file stay together; loose ones share shards."""
    packed = [Photo(f"x/a.tar/{n}", f"x/a.tar#{n}", container="x/a.tar") for n in range(3)]
    names = name_shards([*packed, *PHOTOS[:1]], {}, ".tar", 2)
    assert list(names.values()) == ["x/a-00000.tar", "x/a-00000.tar", "x/a-00001.tar", "shard-00000.tar"]


def test_shards_once_given_stay() -> None:
    """A photo that comes later, or goes, moves no other to another shard."""
    before = name_shards(PHOTOS[1:], {}, ".tar", 2)
    after = name_shards(PHOTOS, before, ".tar", 2)
    assert {key: after[key] for key in before} == before
    assert after["p0"] == "shard-00002.tar"
    assert name_shards(PHOTOS[2:], before, ".tar", 2) == {key: before[key] for key in ("p2", "p3", "p4")}


def test_samples_have_names_without_dots() -> None:
    """A name ends at its first dot in a WebDataset, so no two may be equal to there."""
    names = sample_names(["a.jpg", "a.png", "v1.5.jpg", "x.y/b.jpg", "a_jpg"])
    assert names["v1.5.jpg"] == "v1_5"
    assert names["x.y/b.jpg"] == "x.y/b"
    assert len(set(names.values())) == 5
    assert not any("." in name.rpartition("/")[2] for name in names.values())


def _fill(kind: str, number: int = 40) -> tuple[bytes, HashingWriter]:
    file = io.BytesIO()
    counted = HashingWriter(file)
    with fill_shard(kind, counted, ending="png", masks=True) as add:
        for n in range(number):
            add(f"n{n}", {"source": f"s{n}", "status": "ok", "confidence": 0.5, "seconds": n}, b"c%d" % n, b"m%d" % n)
        add("empty", {"source": "e", "status": "failed", "code": "x"}, None, None)
    return file.getvalue(), counted


def test_table_has_a_row_for_every_photo() -> None:
    """Rows hold name, cutout, mask and facts; a photo without a result has a row without one."""
    data, counted = _fill("parquet")
    assert counted.size_bytes == len(data)
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.num_row_groups == 3
    rows = {row["key"]: row for row in file.read().to_pylist()}
    assert (rows["n7"]["image"], rows["n7"]["mask"], rows["n7"]["source"]) == (b"c7", b"m7", "s7")
    assert (rows["empty"]["image"], rows["empty"]["code"]) == (None, "x")
    assert len(rows) == 41


def test_tar_has_samples_of_results() -> None:
    """A sample is a cutout, a mask and its facts; a photo without a result is none."""
    data, _ = _fill("webdataset", 2)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert set(members) == {f"n{n}.{part}" for n in range(2) for part in ("png", "mask.png", "json")}
    assert members["n1.png"] == b"c1"
    assert json.loads(members["n1.json"])["confidence"] == 0.5


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_equal_photos_give_equal_bytes(kind: str) -> None:
    """Nothing in a shard depends on when it was written."""
    assert _fill(kind)[0] == _fill(kind)[0]


@pytest.mark.parametrize(
    ("changed", "size_bytes", "reasons"),
    [
        ({}, 500, {}),
        ({}, 499, {"result missing or altered": 2}),
        ({"status": "pending"}, 500, {"unfinished": 1, "in one file with these": 1}),
        ({"source_modified_ns": 1}, 500, {"source changed": 1, "in one file with these": 1}),
        ({"status": "failed"}, 500, {}),
    ],
)
def test_a_shard_is_done_whole_or_left_alone(changed: dict, size_bytes: int, reasons: dict[str, int]) -> None:
    """One photo that has to be done takes those beside it along; a failed one in a finished shard does not."""
    entries = {"p0": DONE._replace(**changed), "p1": DONE}
    plan = make_plan(PHOTOS[:2], dict.fromkeys(entries, "s-0.tar"), entries, {"s-0.tar": size_bytes}, {}, JOB)
    assert dict(plan.reasons) == reasons
    assert len(plan.tasks) == (2 if reasons else 0)
    assert plan.blocked == plan.claims == []


def test_foreign_shard_blocks() -> None:
    """A file of that name that no batch has made is not replaced unasked."""
    names = dict.fromkeys(("p0", "p1"), "s-0.tar")
    assert len(make_plan(PHOTOS[:2], names, {}, {"s-0.tar": 1}, {}, JOB).blocked) == 2
    plan = make_plan(PHOTOS[:2], names, {}, {"s-0.tar": 1}, {}, replace(JOB, overwrite=True))
    assert len(plan.tasks) == len(plan.claims) == 2
