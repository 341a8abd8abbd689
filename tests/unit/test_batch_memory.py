"""What a batch may hold in memory: estimates of photos, the gate that they pass, pages of Parquet files."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("pyarrow")

from cutray.imaging.picture_size import read_size
from pipelines.batch.memory import MemoryGate, budget_bytes, photo_bytes, reader_bytes, resident_bytes
from pipelines.batch.sources import list_photos
from tests.batches import write_photos, write_table

_PATIENCE_S = 60


def _encoded(kind: str, width: int = 40, height: int = 30) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_size_is_read_from_the_header(kind: str) -> None:
    """Width and height come from the first bytes, without the pixels; what is no picture has none."""
    data = _encoded(kind)
    assert read_size(data) == (40, 30)
    assert read_size(data[:3]) is None
    assert read_size(b"%PDF-1.7 something else") is None


def test_estimate_grows_with_the_photo() -> None:
    """Pixels count, formats that encode from copies cost more, and a header that does not tell is no small photo."""
    small, large = _encoded("PNG"), _encoded("PNG", 4000, 3000)
    assert photo_bytes(small, "PNG") < 1 << 20 < 12_000_000 * 20 < photo_bytes(large, "PNG")
    assert photo_bytes(large, "WEBP") > photo_bytes(large, "PNG")
    assert photo_bytes(b"no picture", "PNG") > photo_bytes(large, "PNG")


def test_budget_is_what_was_given_or_half_of_what_is_free() -> None:
    """GB are powers of ten, as in the settings of training."""
    assert budget_bytes(1.5) == 1_500_000_000
    assert budget_bytes(0, 10_000_000_000) == 5_000_000_000
    assert resident_bytes() >= 0


def test_gate_keeps_photos_within_the_limit() -> None:
    """Only as many are in work as have room together; one that is too large for any room is worked on alone."""
    gate = MemoryGate(1000, resident=lambda: 200)
    needs = [300, 300, 300, 5000, 100, 700] * 4
    held: list[int] = []
    seen: list[list[int]] = []
    lock = threading.Lock()

    def work(need: int) -> None:
        with gate.room(need):
            with lock:
                held.append(need)
                seen.append(sorted(held))
            threading.Event().wait(0.005)
            with lock:
                held.remove(need)

    threads = [threading.Thread(target=work, args=(need,)) for need in needs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_S)
    assert len(seen) == len(needs)
    assert all(sum(together) <= 800 or len(together) == 1 for together in seen)
    assert max(map(len, seen)) > 1


def test_gate_looks_at_what_is_held_now() -> None:
    """Where the process already holds more than estimates say, photos go one by one, in their turn."""
    held = 200
    gate = MemoryGate(1000, resident=lambda: held)
    order: list[int] = []
    held = 950

    def work(number: int) -> None:
        with gate.room(100):
            order.append(number)

    with gate.room(100):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for number, thread in enumerate(threads):
            thread.start()
            while len(gate._waiting) <= number:
                threading.Event().wait(0.001)
        assert not order
    for thread in threads:
        thread.join(_PATIENCE_S)
    assert order == [0, 1, 2]


def test_pages_of_a_parquet_file_count(tmp_path: Path) -> None:
    """What reading holds is about thrice the largest page, whose size follows from the row groups; files have none."""
    names = write_photos(tmp_path / "photos", 9)
    size = sum((tmp_path / "photos" / name).stat().st_size for name in names)
    write_table(tmp_path / "photos", names, tmp_path / "one.parquet", rows_per_group=9)
    write_table(tmp_path / "photos", names, tmp_path / "groups.parquet", rows_per_group=3)
    one, groups = (list_photos(str(tmp_path / name)) for name in ("one.parquet", "groups.parquet"))
    assert 3 * size <= reader_bytes(one.reader, one.photos) < 3.3 * size
    assert size / 2 < reader_bytes(groups.reader, groups.photos) < 2 * size
    files = list_photos(str(tmp_path / "photos"))
    assert reader_bytes(files.reader, files.photos) == 0
