"""Files are read only when they are regular and small enough, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cutray.config import InputLimits
from cutray.errors import ImageTooLargeError, InputError, OutputError, OutputExistsError
from cutray.imaging import files
from cutray.imaging.encode import format_of_output
from cutray.imaging.files import check_output, create_atomically, is_stream, read_bytes, write_atomically

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
    with pytest.raises(InputError, match=r"pipe' is a pipe .*cutray remove - < "):
        read_bytes(tmp_path / "pipe", LIMITS)


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


@pytest.mark.parametrize(("number", "windows"), [(errno.EPERM, None), (errno.EINVAL, 1), (errno.EINVAL, 50)])
def test_file_systems_without_hard_links_work(
    number: int, windows: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where links are not possible, as on exFAT, the file is still written once and never replaced."""

    def refuse(*_: object) -> None:
        error = OSError(number, "not possible")
        error.winerror = windows  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(os, "link", refuse)
    write_atomically(tmp_path / "out.png", b"data")
    with pytest.raises(OutputExistsError):
        write_atomically(tmp_path / "out.png", b"other")
    assert (tmp_path / "out.png").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["out.png"]


def test_links_that_fail_for_another_reason_are_output_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that is invalid by itself says nothing about links, and the name stays free."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "invalid argument")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputError, match="invalid argument"):
        write_atomically(tmp_path / "out.png", b"data")
    assert os.listdir(tmp_path) == []


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


def test_links_keep_leading_to_their_target(tmp_path: Path) -> None:
    """Of a link to a file the target is replaced, whole or not at all; the link, and a chain of them, stays."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.png"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("real/out.png")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    for name in ("link", "chain"):
        with pytest.raises(OutputExistsError):
            write_atomically(tmp_path / name, b"new")
        write_atomically(tmp_path / name, name.encode(), overwrite=True)
        assert target.read_bytes() == name.encode()
        assert (tmp_path / name).is_symlink()
    (tmp_path / "dangling").symlink_to("real/new.png")
    write_atomically(tmp_path / "dangling", b"new", overwrite=True)
    assert (tmp_path / "real" / "new.png").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path / "real")) == ["new.png", "out.png"]


def test_devices_are_written_through(tmp_path: Path) -> None:
    """A character device gets the bytes and stays a device, also through a link and without leave to overwrite."""
    (tmp_path / "link.png").symlink_to(os.devnull)
    for path in (os.devnull, tmp_path / "link.png"):
        for overwrite in (False, True):
            check_output(path, overwrite=overwrite)
            write_atomically(path, b"data", overwrite=overwrite)
            with create_atomically(path, overwrite=overwrite) as file:
                file.write(b"data")
        assert is_stream(path)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert (tmp_path / "link.png").is_symlink()
    assert format_of_output(os.devnull) == "PNG"
    assert format_of_output(tmp_path / "link.png") == "PNG"


def test_pipes_are_written_through(tmp_path: Path) -> None:
    """A named pipe gets all bytes, more than it holds at a time, and a reader that comes late is waited for."""
    pipe, data = tmp_path / "out.webp", bytes(range(256)) * 4096
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write_atomically, pipe, data)
        assert pipe.read_bytes() == data
        written.result()
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert format_of_output(pipe) == "WEBP"


def test_a_pipe_that_nobody_reads_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reader writing to a pipe ends in an error."""
    monkeypatch.setattr(files, "_READER_WAIT_S", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "pipe", b"data")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("to_file", [False, True])
def test_standard_output_has_names(name: str, to_file: bool, tmp_path: Path) -> None:
    """The names of standard output write where the shell has sent it: a pipe, or behind what is in a file already."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    path = str(tmp_path / "link") if name == "link" else name
    program = (
        "import sys; from cutray.imaging.files import write_atomically as write; "
        "write(sys.argv[1], b'one'); write(sys.argv[1], b'two')"
    )
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"zero ")
        file.flush()
        run = subprocess.run(
            [sys.executable, "-c", program, path],
            stdout=file if to_file else subprocess.PIPE,
            check=True,
            timeout=300,
        )
        file.seek(0)
        assert (file.read() if to_file else b"zero " + run.stdout) == b"zero onetwo"


@pytest.mark.parametrize("number", ["999", "9" * 12])
def test_descriptors_that_are_not_open_are_refused(number: str) -> None:
    """They are an output error before any work, and when written to."""
    for refuse in (check_output, lambda path: write_atomically(path, b"data")):
        with pytest.raises(OutputError, match="cannot write"):
            refuse(f"/dev/fd/{number}")


def test_devices_are_written_through_where_nothing_is_non_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows opens its NUL without O_NONBLOCK, and lacks set_blocking before Python 3.12."""
    monkeypatch.setattr(files, "_NO_WAIT", 0)
    monkeypatch.delattr(os, "set_blocking")
    write_atomically(os.devnull, b"data")
    assert is_stream(os.devnull)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a link to one, a socket, a loop of links and a block device are output errors, and stay."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("folder", "to-folder", "loop", "socket"):
            for refuse in (check_output, lambda path, **options: write_atomically(path, b"data", **options)):
                with pytest.raises(OutputError) as caught:
                    refuse(tmp_path / name, overwrite=True)
                assert not isinstance(caught.value, OutputExistsError)
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "socket", "to-folder"]


def test_block_devices_are_refused(tmp_path: Path) -> None:
    """A disk is never written to."""
    try:
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    except OSError:
        pytest.skip("making a device needs rights that are not there")
    with pytest.raises(OutputError, match="block device"):
        write_atomically(tmp_path / "disk", b"data", overwrite=True)
