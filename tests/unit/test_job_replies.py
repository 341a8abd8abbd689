"""The ZIP of a job's results, which is written while it is sent."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from serve_apps.jobs.replies import stream_zip

_ENTRY, _BEHIND, _TABLE = b"PK\x03\x04", b"PK\x07\x08", b"PK\x01\x02"
_SIZES_BEHIND = 0x8


def read_forwards(data: bytes) -> dict[str, bytes]:
    """Read a ZIP as a stream is read: entry after entry, up to the table of contents.

    Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.9; an entry whose size comes behind it has to say itself
    where it ends, which a deflate stream alone does.
    """
    found, at = {}, 0
    while data.startswith(_ENTRY, at):
        flags, method = struct.unpack_from("<HH", data, at + 6)
        name_bytes, extra_bytes = struct.unpack_from("<HH", data, at + 26)
        name = data[at + 30 : at + 30 + name_bytes].decode()
        assert flags & _SIZES_BEHIND and method == zipfile.ZIP_DEFLATED, name
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        found[name] = unpacker.decompress(data[at + 30 + name_bytes + extra_bytes :])
        assert unpacker.eof, name
        at = len(data) - len(unpacker.unused_data)
        mark, checksum, _, size = struct.unpack_from("<4sLLL", data, at)
        assert (mark, checksum, size) == (_BEHIND, zlib.crc32(found[name]), len(found[name])), name
        at += 16
    assert data.startswith(_TABLE, at)
    return found


def test_results_can_be_unpacked_while_they_arrive(tmp_path: Path) -> None:
    """Readers that go forwards alone, and those that begin at the end, get each file as it is."""
    files = {"a.png": os.urandom(700_000), "sku/b.webp": b"", "sku/caf\u00e9.jpg": b"three"}
    paths = []
    for number, (name, data) in enumerate(files.items()):
        paths.append((name, tmp_path / str(number)))
        paths[-1][1].write_bytes(data)
    rows = [{"number": 1, "status": "ok"}]
    packed = b"".join(stream_zip(paths, rows))
    found = read_forwards(packed)
    assert json.loads(found.pop("results.json")) == rows
    assert found == files
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in files} == files
    assert len(packed) < sum(map(len, files.values())) + 2000
