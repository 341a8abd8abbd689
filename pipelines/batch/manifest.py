"""The manifest: one row per photo, as Parquet, appended part by part so that a crash costs no row that was kept."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cutray.config import InputLimits
from cutray.engines.base import EngineInfo
from cutray.errors import InputError
from pipelines.batch.names import encode_name
from pipelines.batch.storage import LocalStorage
from pipelines.batch.storage_base import Storage

FOLDER = "_cutray"
MANIFEST = f"{FOLDER}/manifest.parquet"
JOB = f"{FOLDER}/job.json"
_NAMES = b"cutray_names"  # how names are written; earlier versions wrote them as they are, and did not say so
SCHEMA = pa.schema(
    [
        ("source", pa.string()),  # the photo's path below SRC
        ("output", pa.string()),  # path below DST of the result, or of the file that holds it with others
        ("status", pa.string()),  # of PhotoStatus
        ("code", pa.string()),  # a stable word for the reason
        ("reason", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_modified_ns", pa.int64()),
        ("source_sha256", pa.string()),
        ("output_bytes", pa.int64()),
        ("output_sha256", pa.string()),
        ("mask_bytes", pa.int64()),
        ("mask_sha256", pa.string()),
        ("shard_bytes", pa.int64()),  # of a file that holds several results; null where each has its own
        ("shard_sha256", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("confidence", pa.float32()),
        ("area_fraction", pa.float32()),
        ("notes", pa.list_(pa.string())),
        ("refined", pa.bool_()),  # whether soft edges were solved from the photo's own colours
        ("edge_cases", pa.list_(pa.string())),  # null where they were not looked for
        ("engine", pa.string()),  # with device and precision
        ("node", pa.string()),  # of Ray, that did it
        ("model_sha256", pa.string()),
        ("settings_hash", pa.string()),
        ("seconds", pa.float32()),
        ("finished_at", pa.timestamp("ms", tz="UTC")),
    ],
    metadata={_NAMES: "encode_name"},
)
_MOST_PARTS = 256
_LIMITS = InputLimits(max_bytes=1 << 36)


class PhotoStatus(StrEnum):
    """What became of a photo. The last two are told to the driver and never written down."""

    PENDING = "pending"  # its result's name is claimed, the result not finished
    OK = "ok"
    NO_SUBJECT = "no_subject"
    FAILED = "failed"
    SKIPPED = "skipped"  # it is a result of Cutray's own, found in a folder
    HALTED = "halted"  # the whole job cannot go on
    KEPT = "kept"  # its content has not changed and its result is in place


class ManifestEntry(NamedTuple):
    """What is needed of a row to decide whether its photo is done."""

    output: str
    status: str
    source_bytes: int | None
    source_modified_ns: int | None
    source_sha256: str | None
    output_bytes: int | None
    output_sha256: str | None
    mask_bytes: int | None
    shard_bytes: int | None
    shard_sha256: str | None
    settings_hash: str | None
    engine: str | None = None
    mask_sha256: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the photo has a result, or rightly has none."""
        return self.status in (PhotoStatus.OK, PhotoStatus.NO_SUBJECT, PhotoStatus.SKIPPED)

    @property
    def precision(self) -> str | None:
        """Number format that the network computed in, where it did."""
        return EngineInfo.parse(self.engine).precision if self.engine else None


class Manifest:
    """All rows of a target, from every run. One process writes it at a time."""

    def __init__(self, storage: Storage) -> None:
        """Find what earlier runs left; rows are read by ``entries`` or ``table``."""
        self._storage = storage
        names = sorted(found.name for found in storage.walk() if found.name.startswith(f"{FOLDER}/part-"))
        self._parts = names
        self._number = 1 + max((int(name.rpartition("-")[2].partition(".")[0]) for name in names), default=0)
        self._compacted = any(found.name == MANIFEST for found in storage.walk())

    def table(self) -> pa.Table:
        """Return all rows in order of their source, the last one of each source.

        Raises:
            InputError: A part is damaged.
        """
        names = ([MANIFEST] if self._compacted else []) + self._parts
        tables = [self._read(name) for name in names]
        rows = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        numbered = rows.select(["source"]).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        last = numbered.group_by("source").aggregate([("row", "max")]).sort_by("source")
        return rows.take(last.column("row_max"))

    def entries(self) -> dict[str, ManifestEntry]:
        """Return what is known of each source."""
        table = self.table()
        columns = (table.column(name).to_pylist() for name in ManifestEntry._fields)
        return dict(
            zip(table.column("source").to_pylist(), map(ManifestEntry._make, zip(*columns, strict=True)), strict=True)
        )

    def rows_of(self, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the whole rows of some sources."""
        table = self.table()
        chosen = table.filter(pc.is_in(table.column("source"), pa.array(sources, pa.string())))
        return {row["source"]: row for row in chosen.to_pylist()}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows for good: when this returns, they survive a crash.

        Raises:
            OutputError: They cannot be written.
        """
        if not rows:
            return
        name = f"{FOLDER}/part-{self._number:08d}.parquet"
        self._storage.write(name, _parquet(pa.Table.from_pylist([dict(row) for row in rows], SCHEMA)), overwrite=False)
        self._parts.append(name)
        self._number += 1
        if len(self._parts) >= _MOST_PARTS:
            self.compact()

    def compact(self) -> pa.Table:
        """Write one file with all rows, then drop the parts; a crash in between leaves rows twice, which is harmless.

        Raises:
            OutputError: It cannot be written.
        """
        table = self.table()
        self._storage.write(MANIFEST, _parquet(table), overwrite=True)
        self._compacted = True
        while self._parts:  # the oldest first: what a crash leaves must not be older than what was compacted
            self._storage.delete(self._parts.pop(0))
        return table

    def _read(self, name: str) -> pa.Table:
        """Read one file, also one whose columns are those of an older version."""
        data = self._storage.read(name, _LIMITS)
        try:
            table = pq.read_table(io.BytesIO(data))
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(
                got=f"{name} is damaged: {error}",
                fix="restore it, or delete it to have its photos done again with --overwrite",
            ) from error
        columns = {
            field.name: table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in SCHEMA
        }
        if _NAMES not in (table.schema.metadata or {}):
            # Results in a bucket have kept the names that they were written under.
            for column in ("source", "output") if isinstance(self._storage, LocalStorage) else ("source",):
                names = columns[column].to_pylist()
                columns[column] = pa.array([name and encode_name(name) for name in names], pa.string())
        return pa.Table.from_arrays(list(columns.values()), schema=SCHEMA)


def write_job(storage: Storage, facts: Mapping[str, Any]) -> None:
    """Note what this run is about.

    Raises:
        OutputError: It cannot be written.
    """
    noted = {**facts, "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    storage.write(JOB, json.dumps(noted, indent=2).encode(), overwrite=True)


def read_job(storage: Storage) -> dict[str, Any]:
    """Return what ``write_job`` noted last; nothing where that has gone or is damaged."""
    try:
        noted = json.loads(storage.read(JOB, _LIMITS))
    except (InputError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _parquet(table: pa.Table) -> bytes:
    """Encode rows."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
