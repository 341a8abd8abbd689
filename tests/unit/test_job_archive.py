"""ZIPs of strangers: bombs, names that leave the folder, nesting, encryption, damage."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import pytest

from cutray.errors import InputError

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from serve_apps.jobs.archive import ArchiveError, TooManyPhotosError, ZipPhotos


def pack(*files: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Make a ZIP."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return sink.getvalue()


def unpack(data: bytes, max_photos: int = 10, max_bytes: int = 20 << 20) -> dict[str, bytes]:
    """Read all photos."""
    archive = ZipPhotos(io.BytesIO(data), max_photos=max_photos, max_bytes=max_bytes)
    return {name: b"".join(archive.blocks(entry)) for name, entry in zip(archive.names, archive.entries, strict=True)}


def test_photos_come_out_with_their_folders() -> None:
    """Folders are kept, and what operating systems add is left out."""
    junk = [("__MACOSX/._a.jpg", b"x"), (".DS_Store", b"x"), ("sku/Thumbs.db", b"x"), ("sku/", b"")]
    packed = pack(("a.jpg", b"one"), ("sku/b.jpg", b"two"), *junk, method=zipfile.ZIP_DEFLATED)
    assert unpack(packed) == {"a.jpg": b"one", "sku/b.jpg": b"two"}


def with_nul() -> bytes:
    return pack(("aXb.jpg", b"1")).replace(b"aXb.jpg", b"a\x00b.jpg")


def encrypted() -> bytes:
    data = bytearray(pack(("a.jpg", b"1")))
    at = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[at + 8] |= 1
    return bytes(data)


def link() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        entry = zipfile.ZipInfo("a.jpg")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return sink.getvalue()


def lying() -> bytes:
    """Say that a photo has fewer bytes than it unpacks to."""
    data = bytearray(pack(("a.bmp", bytes(8 << 20)), method=zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = data[22:26] = struct.pack("<I", 1000)
    return bytes(data)


def nameless() -> bytes:
    """Say that a name has no letters; what was one becomes a comment."""
    data = bytearray(pack(("a.jpg", b"1")))
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<HHH", data, at + 28, 0, 0, 5)
    return bytes(data)


def no_utf8() -> bytes:
    """Promise UTF-8 for a name, and break it in front of the photo alone."""
    data = bytearray(pack(("caf\u00e9.jpg", b"1")))
    data[data.index(b"\xc3\xa9")] = 0xFF
    return bytes(data)


def before_the_start() -> bytes:
    """Say that the table of contents begins later than it does, so that photos would lie before the ZIP."""
    data = bytearray(pack(("a.jpg", b"1")))
    at = data.index(b"PK\x05\x06")
    (offset,) = struct.unpack_from("<I", data, at + 16)
    struct.pack_into("<I", data, at + 16, offset + 10)
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"PK\x03\x04 nothing of a ZIP",
        lambda: pack(("a.jpg", b"1"))[:-5],
        lambda: pack(("../a.jpg", b"1")),
        lambda: pack(("x/../../a.jpg", b"1")),
        lambda: pack(("/etc/a.jpg", b"1")),
        lambda: pack(("C:/a.jpg", b"1")),
        lambda: pack(("x\\a.jpg", b"1")),
        lambda: pack(("a.jpg", b"1"), ("A.JPG", b"2")),
        lambda: pack(("caf\u00e9.jpg", b"1"), ("cafe\u0301.jpg", b"2")),
        lambda: pack(("a" * 600, b"1")),
        lambda: pack(("x/" * 20 + "a.jpg", b"1")),
        lambda: pack(("inner.zip", pack(("a.jpg", b"1")))),
        lambda: pack(("a.bmp", bytes(15 << 20)), method=zipfile.ZIP_DEFLATED),
        lambda: pack(*((f"{number}.jpg", bytes(3 << 20)) for number in range(8)), method=zipfile.ZIP_DEFLATED),
        lambda: pack(("a.jpg", b"1" * 100), method=zipfile.ZIP_LZMA),
        lambda: pack(("a.jpg", b"same bytes")).replace(b"same bytes", b"other text"),
        with_nul,
        encrypted,
        link,
        lying,
        nameless,
        no_utf8,
        before_the_start,
    ],
)
def test_hostile_archives_are_refused(make: Callable[[], bytes]) -> None:
    """Each is one clear error, and nothing more than allowed is unpacked."""
    with pytest.raises(InputError) as caught:
        unpack(make())
    assert caught.value.code == "bad_archive"
    assert isinstance(caught.value, ArchiveError)


def test_too_many_photos_are_counted_before_any_is_unpacked() -> None:
    """One photo more than allowed is refused by its own code; a table of contents of any size is not read."""
    packed = pack(*((f"{number}.jpg", b"1") for number in range(11)))
    with pytest.raises(TooManyPhotosError):
        unpack(packed)
    many = pack(*((f"{number:0200d}.jpg", b"") for number in range(200)))
    with pytest.raises(ArchiveError, match="too many or too long names"):
        unpack(many)


def test_zip64_is_refused() -> None:
    """Nothing that fits into a request needs it."""
    data = pack(("a.jpg", b"1"))
    at = data.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 1)
    with pytest.raises(ArchiveError, match="ZIP64"):
        unpack(data[:at] + locator + data[at:])
