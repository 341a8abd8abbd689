"""Files are read only when they are regular and small enough, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cutray.config import InputLimits
from cutray.errors import ImageTooLargeError, InputError, OutputError, OutputExistsError
from cutray.imaging.files import read_bytes, write_atomically

LIMITS = InputLimits(max_bytes=1000)


def test_regular_files_and_links_are_read(tmp_path: Path) -> None:
    """A file within the limit is read, also through a symbolic link."""
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("a")
    assert read_bytes(tmp_path / "a", LIMITS) == read_bytes(str(tmp_path / "link"), LIMITS) == b"x" * 1000


def test_large_files_are_refused(tmp_path: Path) -> None:
    """One byte above the limit is too much, and a sparse giant is refused at once."""
    (tmp_path / "a").write_bytes(b"x" * 1001)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("a", "sparse"):
        with pytest.raises(ImageTooLargeError):
            read_bytes(tmp_path / name, LIMITS)


def test_everything_else_is_refused_without_waiting(tmp_path: Path) -> None:
    """A missing file, folder, pipe, device, loop of links and impossible name are input errors."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe", "/dev/zero", tmp_path / "loop", "a\0b", "n" * 300):
        with pytest.raises(InputError):
            read_bytes(path, LIMITS)


def test_results_are_written_with_ordinary_rights(tmp_path: Path) -> None:
    """Missing folders are created, the rights follow the process, and nothing else is left behind."""
    target = tmp_path / "new" / "folder" / "out.png"
    write_atomically(target, b"data")
    assert target.read_bytes() == b"data"
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert os.listdir(target.parent) == ["out.png"]


def test_existing_files_are_kept_unless_overwriting(tmp_path: Path) -> None:
    """An existing file, even a dangling link, is never replaced by accident."""
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    (tmp_path / "dangling").symlink_to("nowhere")
    for path in (target, tmp_path / "dangling"):
        with pytest.raises(OutputExistsError):
            write_atomically(path, b"new")
    assert target.read_bytes() == b"old"
    write_atomically(target, b"new", overwrite=True)
    assert target.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "out.png"]


def test_one_writer_wins(tmp_path: Path) -> None:
    """Of many writers of one name exactly one succeeds, and the file is whole."""
    target = tmp_path / "out.png"

    def write(index: int) -> bool:
        try:
            write_atomically(target, bytes([index]) * 100_000)
        except OutputExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(24))) == 1
    assert len(set(target.read_bytes())) == 1
    assert os.listdir(tmp_path) == ["out.png"]


def test_file_systems_without_hard_links_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where links are not possible the file is still written once and never replaced."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_atomically(tmp_path / "out.png", b"data")
    with pytest.raises(OutputExistsError):
        write_atomically(tmp_path / "out.png", b"other")
    assert (tmp_path / "out.png").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["out.png"]


def test_impossible_places_are_output_errors(tmp_path: Path) -> None:
    """A folder as target, a file as folder, a name that is too long and a missing root are output errors."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "out.png", tmp_path / ("n" * 300), "a\0b", "/proc/none/out.png"):
        with pytest.raises(OutputError) as caught:
            write_atomically(path, b"data")
        assert not isinstance(caught.value, OutputExistsError)
    assert os.listdir(tmp_path) == ["file"]


_FULL = """
import resource, signal, sys
from cutray.errors import OutputError
from cutray.imaging.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(sys.argv[1], b"x" * 5000, overwrite=True)
except OutputError as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ") or not hasattr(resource, "RLIMIT_FSIZE"), reason="needs file limits")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """When the space ends in the middle, the old file stays and no temporary file is left."""
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    run = subprocess.run(
        [sys.executable, "-c", _FULL, str(target)], capture_output=True, check=False, text=True, timeout=60
    )
    assert run.stdout.strip() == "OutputError", run.stderr
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.png"]
