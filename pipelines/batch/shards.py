"""Results in files that hold many: Parquet tables and WebDataset tars, written whole from fixed photos."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.batch.names import distinct_names
from pipelines.batch.photo import Photo

SHARD_SUFFIXES = {"parquet": ".parquet", "webdataset": ".tar"}
_FACTS = {
    "key": pa.string(),  # the photo's name within its own file
    "source": pa.string(),  # what the manifest calls it
    "status": pa.string(),
    "code": pa.string(),
    "width_px": pa.int32(),
    "height_px": pa.int32(),
    "confidence": pa.float32(),
    "area_fraction": pa.float32(),
    "notes": pa.list_(pa.string()),
    "source_sha256": pa.string(),
}
_PICTURES = {"image": pa.binary(), "mask": pa.binary()}
_GROUP_ROWS, _GROUP_BYTES = 16, 32 << 20  # so that neither writer nor reader holds more

Add = Callable[[str, Mapping[str, Any], bytes | None, bytes | None], None]


def name_shards(photos: Sequence[Photo], claimed: Mapping[str, str], suffix: str, most: int) -> dict[str, str]:
    """Give every photo the shard that its result goes to, the same one in every run.

    Photos of one file stay together and their shards are named after it. Photos that were given a shard before keep
    it; new ones get new shards.

    Args:
        photos: The source's photos, in order.
        claimed: Photo and shard of results from earlier runs.
        suffix: Ending of the shards, with its dot.
        most: Most photos in one shard.

    Returns:
        Key and shard of each photo.
    """
    names = {photo.key: claimed[photo.key] for photo in photos if photo.key in claimed}
    taken = set(claimed.values())
    fresh: defaultdict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.key not in names:
            fresh[posixpath.splitext(photo.container)[0] or "shard"].append(photo)
    for stem, group in fresh.items():
        free = (name for number in count() if (name := f"{stem}-{number:05d}{suffix}") not in taken)
        for start in range(0, len(group), most):
            shard = next(free)
            names |= {photo.key: shard for photo in group[start : start + most]}
    return names


class HashingWriter(io.RawIOBase):
    """A file that is written from front to back, and knows its size and SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        """Write through to a file, which stays open when this one is closed."""
        self._file = file
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Hash of what was written."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def tell(self) -> int:
        """Tell where the next byte goes."""
        return self.size_bytes

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._file.write(data)
        self._digest.update(data)
        length = memoryview(data).nbytes
        self.size_bytes += length
        return length


def fill_shard(kind: str, file: HashingWriter, *, ending: str, masks: bool) -> AbstractContextManager[Add]:
    """Begin a shard; yields the function that adds one photo's name in the shard, its row, cutout and mask.

    Equal photos give equal bytes: nothing in a shard depends on when or where it was written.

    Args:
        kind: parquet or webdataset.
        file: What to fill.
        ending: Ending of the cutouts, such as png.
        masks: Whether there are masks.
    """
    return _table(file, masks) if kind == "parquet" else _tar(file, ending)


def sample_names(keys: Iterable[str]) -> dict[str, str]:
    """Name the samples of a WebDataset: the name ends at the first dot there, and no two may be equal."""
    return distinct_names({key: sample_name(key) for key in keys}, lambda key, ending: _dotless(key) + ending)


def sample_name(key: str) -> str:
    """Name a sample that has no neighbours of the same name."""
    return _dotless(posixpath.splitext(key)[0])


def _dotless(key: str) -> str:
    """Replace the dots of a file's name, but not those of its folders."""
    folder, mark, base = key.rpartition("/")
    return f"{folder}{mark}{base.replace('.', '_')}"


@contextmanager
def _table(file: HashingWriter, masks: bool) -> Iterator[Add]:
    """Write rows of a Parquet file; photos without a result have a row as well."""
    schema = pa.schema({**_FACTS, **{name: kind for name, kind in _PICTURES.items() if masks or name == "image"}})
    small = list(_FACTS)
    waiting: list[dict[str, Any]] = []
    # The pictures are compressed already; statistics and dictionaries would hold copies of them.
    compression = {name: "zstd" if name in _FACTS else "none" for name in schema.names}
    with pq.ParquetWriter(
        file, schema, compression=compression, use_dictionary=["status", "code"], write_statistics=small
    ) as writer:

        def add(name: str, row: Mapping[str, Any], cutout: bytes | None, mask: bytes | None) -> None:
            waiting.append({**{fact: row.get(fact) for fact in _FACTS}, "key": name, "image": cutout, "mask": mask})
            if len(waiting) >= _GROUP_ROWS or sum(len(one["image"] or b"") for one in waiting) > _GROUP_BYTES:
                flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        yield add
        if waiting:
            flush()


@contextmanager
def _tar(file: HashingWriter, ending: str) -> Iterator[Add]:
    """Write the samples of a WebDataset; photos without a result have none."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, row: Mapping[str, Any], cutout: bytes | None, mask: bytes | None) -> None:
            if cutout is None:
                return
            facts = json.dumps({fact: row.get(fact) for fact in _FACTS if fact != "key"}, sort_keys=True)
            for part, data in ((ending, cutout), ("mask.png", mask), ("json", facts.encode())):
                if data is not None:
                    member = tarfile.TarInfo(f"{name}.{part}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))

        yield add
