"""A watched folder gives each photo once, when it is complete, and never a result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cutray.commands.remove.outputs import Naming
from cutray.commands.remove.photos import Existing
from cutray.commands.remove.watch import FolderWatch
from cutray.imaging.encode import encode_image

RESULT = encode_image(np.zeros((4, 4, 4), np.uint8), "PNG")


def _names(found: Existing) -> list[str]:
    return [task.source.name for task in found.todo]


def test_photos_are_given_once_they_are_complete(tmp_path: Path) -> None:
    """A photo comes at the second look at which it has not changed, then never again."""
    watch = FolderWatch(tmp_path, tmp_path / "out", Naming())
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"half")
    assert _names(watch.next_tasks()) == []
    photo.write_bytes(b"half and half")
    assert _names(watch.next_tasks()) == []
    assert _names(watch.next_tasks()) == ["a.jpg"]
    assert _names(watch.next_tasks()) == []


def test_empty_file_is_waited_for(tmp_path: Path) -> None:
    """A file that was created and not written yet is no photo."""
    watch = FolderWatch(tmp_path, None, Naming())
    (tmp_path / "a.jpg").touch()
    assert [_names(watch.next_tasks()) for _ in range(3)] == [[], [], []]
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert [_names(watch.next_tasks()) for _ in range(3)] == [[], ["a.jpg"], []]


def test_results_beside_the_photos_are_never_taken(tmp_path: Path) -> None:
    """Results may lie in the watched folder itself, under any name."""
    watch = FolderWatch(tmp_path, tmp_path, Naming())
    (tmp_path / "a.jpg").write_bytes(b"x")
    watch.next_tasks()
    (task,) = watch.next_tasks().todo
    task.destination.write_bytes(RESULT)
    (tmp_path / "renamed.png").write_bytes(RESULT)
    assert [_names(watch.next_tasks()) for _ in range(3)] == [[], [], []]


def test_later_photo_does_not_get_the_name_of_an_earlier_result(tmp_path: Path) -> None:
    """a.png that comes after a.jpg was done gets a result of its own."""
    watch = FolderWatch(tmp_path, tmp_path / "out", Naming())
    (tmp_path / "a.jpg").write_bytes(b"x")
    watch.next_tasks()
    assert [task.destination.name for task in watch.next_tasks().todo] == ["a.png"]
    (tmp_path / "a.png").write_bytes(b"x")
    watch.next_tasks()
    assert [task.destination.name for task in watch.next_tasks().todo] == ["a.png.png"]


def test_photos_done_before_are_left_and_others_files_reported(tmp_path: Path) -> None:
    """Results of an earlier run stay, files of others are never replaced; both are told apart."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1, 1))
    (out / "a.png").write_bytes(RESULT)
    (out / "b.png").write_bytes(b"mine")
    watch = FolderWatch(tmp_path, out, Naming())
    watch.next_tasks()
    found = watch.next_tasks()
    assert (found.todo, len(found.done), len(found.blocked)) == ([], 1, 1)
    assert found.blocked[0].source.name == "b.jpg"


_SIGNALLED = """
import signal, sys
from pathlib import Path
from cutray.commands.remove.outputs import Naming
from cutray.commands.remove.watch import FolderWatch, stop_on_signal, watch_folder

before, looks = signal.getsignal(signal.SIGINT), []

def handle(existing):
    looks.append(existing)
    signal.raise_signal(signal.SIGINT)

with stop_on_signal() as stop:
    watch_folder(FolderWatch(Path(sys.argv[1]), None, Naming()), handle, stop)
print(len(looks), signal.getsignal(signal.SIGINT) is before)
"""


def test_watch_ends_on_a_signal(tmp_path: Path) -> None:
    """A request to end is heard while the watch waits, and the handlers of before are put back.

    It has a process of its own. pytest's fault handler gives signals a stack that is too small once AMX was used.
    """
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, str(tmp_path)], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout.split() == ["1", "True"]


def test_a_folder_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """A share that drops out ends no watch; what comes with it is done, and what was done is not done again."""
    folder, away = tmp_path / "photos", tmp_path / "away"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    watch = FolderWatch(folder, tmp_path / "out", Naming())
    assert [_names(watch.next_tasks()) for _ in range(2)] == [[], ["a.jpg"]]
    folder.rename(away)
    assert _names(watch.next_tasks()) == []
    (away / "b.jpg").write_bytes(b"x")
    away.rename(folder)
    assert [_names(watch.next_tasks()) for _ in range(3)] == [[], ["b.jpg"], []]
