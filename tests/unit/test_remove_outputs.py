"""Every photo gets a result of its own, and no photo is ever overwritten by one."""

from __future__ import annotations

import ntpath
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cutray.cli import cli
from cutray.commands.remove import summary
from cutray.commands.remove.outputs import Naming, RemovalTask, assign_outputs
from cutray.console.run import run
from cutray.errors import InputError, OptionError, OutputError
from cutray.imaging.encode import encode_image


def _tree(root: Path, *names: str) -> Path:
    """Create files; their content does not matter to the plan."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def _tasks(sources: list[Path], output: Path | str | None, suffix: str = ".png") -> list[RemovalTask]:
    """Return the tasks alone."""
    return assign_outputs(sources, output, Naming(suffix)).tasks


def _result(path: Path) -> None:
    """Write a picture as Cutray does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_image(np.zeros((4, 4, 4), np.uint8), "PNG"))


def _plan(sources: list[Path], output: Path | str | None, suffix: str = ".png") -> dict[str, str]:
    """Return the plan as file names, relative to the folder above the first source where possible."""
    root = sources[0].parent
    tasks = _tasks(sources, output, suffix)
    assert len({str(task.destination).casefold() for task in tasks}) == len(tasks)
    return {os.path.relpath(task.source, root): os.path.relpath(task.destination, root) for task in tasks}


def test_one_photo(tmp_path: Path) -> None:
    """One photo goes to the file named, into the folder named, or next to itself."""
    _tree(tmp_path, "a.jpg", "out/keep")
    photo = tmp_path / "a.jpg"
    assert _plan([photo], tmp_path / "b.webp") == {"a.jpg": "b.webp"}
    assert _plan([photo], tmp_path / "out") == {"a.jpg": "out/a.png"}
    assert _plan([photo], None, ".webp") == {"a.jpg": "a-cutout.webp"}
    assert _plan([photo], f"{tmp_path}/new/") == {"a.jpg": "new/a.png"}


def test_folder_is_mirrored(tmp_path: Path) -> None:
    """A folder's tree appears below the output folder, with the ending of the result; other files are left out."""
    _tree(tmp_path / "in", "a.jpg", "b/c.JPEG", "b/d/e.webp", "b/notes.txt", "f")
    wanted = {"in/a.jpg": "out/a.png", "in/b/c.JPEG": "out/b/c.png", "in/b/d/e.webp": "out/b/d/e.png"}
    assert _plan([tmp_path / "in"], tmp_path / "out") == wanted


def test_folder_without_output_gets_a_folder_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of a folder lie in a folder next to it, also if it is called . or .."""
    _tree(tmp_path / "in", "a.jpg", "deep/b.jpg")
    assert _plan([tmp_path / "in"], None)["in/a.jpg"] == "in-cutouts/a.png"
    for here, name in (("in", "."), ("in/deep", "..")):
        monkeypatch.chdir(tmp_path / here)
        tasks = _tasks([Path(name)], None)
        assert {task.destination for task in tasks} == {
            tmp_path / "in-cutouts/a.png",
            tmp_path / "in-cutouts/deep/b.png",
        }


def test_equal_stems_are_kept_apart(tmp_path: Path) -> None:
    """Photos that differ in their ending alone get results that show it."""
    _tree(tmp_path / "in", "a.jpg", "a.png", "b.jpg")
    wanted = {"in/a.jpg": "out/a.jpg.png", "in/a.png": "out/a.png.png", "in/b.jpg": "out/b.png"}
    assert _plan([tmp_path / "in"], tmp_path / "out") == wanted


def test_names_that_differ_in_case_are_kept_apart(tmp_path: Path) -> None:
    """Results whose names differ in case alone would be one file on some systems, so they are numbered."""
    _tree(tmp_path / "in", "IMG.JPG", "img.jpg")
    if len(list((tmp_path / "in").iterdir())) == 1:
        pytest.skip("this file system does not tell case apart")
    assert _plan([tmp_path / "in"], tmp_path / "out") == {
        "in/IMG.JPG": "out/IMG.JPG.png",
        "in/img.jpg": "out/img.jpg-2.png",
    }


def test_new_names_do_not_collide_either(tmp_path: Path) -> None:
    """A name that is made to keep two results apart is not the name of a third."""
    _tree(tmp_path / "in", "a.jpg", "a.png", "a.jpg.webp")
    plan = _plan([tmp_path / "in"], tmp_path / "out")
    assert plan == {"in/a.jpg": "out/a.jpg-2.png", "in/a.jpg.webp": "out/a.jpg.png", "in/a.png": "out/a.png.png"}


def test_equal_names_from_several_folders(tmp_path: Path) -> None:
    """Photos of the same name from two places go into one folder under different names."""
    _tree(tmp_path, "x/a.jpg", "y/a.jpg")
    tasks = _tasks([tmp_path / "x/a.jpg", tmp_path / "y/a.jpg"], tmp_path / "out")
    assert [task.destination.name for task in tasks] == ["a.jpg.png", "a.jpg-2.png"]


def test_photo_named_twice_is_done_once(tmp_path: Path) -> None:
    """A photo and the folder it lies in, or the same photo twice, is one task."""
    _tree(tmp_path / "in", "a.jpg")
    sources = [tmp_path / "in", tmp_path / "in/a.jpg", tmp_path / "in/a.jpg"]
    assert len(_tasks(sources, tmp_path / "out")) == 1


def test_order_is_stable(tmp_path: Path) -> None:
    """The plan is the same each time, in the order of names."""
    _tree(tmp_path / "in", *(f"{name}.jpg" for name in "zkamb"), "dir/q.jpg")
    plans = [_tasks([tmp_path / "in"], tmp_path / "out") for _ in range(2)]
    assert plans[0] == plans[1]
    assert [task.source.stem for task in plans[0]] == ["a", "b", "k", "m", "z", "q"]


def test_output_folder_inside_the_input_is_not_searched(tmp_path: Path) -> None:
    """Results of an earlier run are not taken for photos."""
    _tree(tmp_path / "in", "a.jpg", "out/a.png", "out/deep/b.png")
    assert _plan([tmp_path / "in"], tmp_path / "in" / "out") == {"in/a.jpg": "in/out/a.png"}


def test_photo_is_never_overwritten(tmp_path: Path) -> None:
    """A result that was told to land on its own photo is refused, also through a link."""
    _tree(tmp_path / "in", "a.png")
    folder = tmp_path / "in"
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    for output in (folder / "a.png", tmp_path / "link" / "a.png"):
        with pytest.raises(OutputError, match="overwrite a photo"):
            _tasks([folder / "a.png"], output)


def test_results_beside_their_photos_avoid_the_photos(tmp_path: Path) -> None:
    """In the photos' own folder, also through a link, a result whose name is a photo's gets another."""
    folder = _tree(tmp_path / "in", "a.png", "b.jpg", "c.jpg", "c.png")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert _plan([folder / "a.png"], folder) == {"a.png": "a-cutout.png"}
    for output in (folder, tmp_path / "link"):
        tasks = _tasks([folder], output)
        assert {task.source.name: task.destination.name for task in tasks} == {
            "a.png": "a-cutout.png",
            "b.jpg": "b.png",
            "c.jpg": "c-cutout.jpg.png",
            "c.png": "c-cutout.png.png",
        }


def test_file_of_ones_own_with_the_name_of_a_result_is_a_photo(tmp_path: Path) -> None:
    """A picture called b-cutout.png that Cutray did not make is a photo like others, and is not replaced."""
    folder = _tree(tmp_path / "in", "b.jpg", "b-cutout.png")
    tasks = _tasks(sorted(folder.iterdir()), None)
    assert {task.source.name for task in tasks} == {"b.jpg", "b-cutout.png"}
    assert not {task.destination for task in tasks} & {folder / "b.jpg", folder / "b-cutout.png"}


def test_results_are_not_taken_for_photos(tmp_path: Path) -> None:
    """What Cutray made is left out of folders and of several names, whatever it is called, unless asked for."""
    folder = _tree(tmp_path / "in", "a.jpg", "b.jpg")
    _result(folder / "a-cutout.png")
    _result(folder / "deep/renamed.png")
    for sources in ([folder], [*sorted(folder.glob("*.*")), folder / "deep"]):
        found = assign_outputs(sources, tmp_path / "out", Naming())
        assert [task.source.name for task in found.tasks] == ["a.jpg", "b.jpg"]
        assert [path.name for path in found.results] == ["a-cutout.png", "renamed.png"]
    everything = assign_outputs([folder], tmp_path / "out", Naming(include_results=True))
    assert (len(everything.tasks), everything.results) == (4, [])
    alone = assign_outputs([folder / "a-cutout.png"], None, Naming())
    assert len(alone.tasks) == 1


def test_outputs_that_were_given_are_kept(tmp_path: Path) -> None:
    """Photos that have an output keep it when others come, and no other photo gets it."""
    folder = _tree(tmp_path / "in", "a.jpg")
    first = _tasks([folder], tmp_path / "out")
    _tree(folder, "a.png", "b.jpg")
    assigned = {task.source: task.destination for task in first}
    later = assign_outputs([folder], tmp_path / "out", Naming(), assigned).tasks
    assert [task.destination.name for task in later] == ["a.png", "a.png.png", "b.png"]


def test_long_names_are_shortened(tmp_path: Path) -> None:
    """A photo whose name fills what file systems allow gets a result whose name fits, and no two share one."""
    long = "ä" * 125  # 250 bytes
    folder = _tree(tmp_path / "in", f"{long}a.jpg", f"{long}b.jpg", f"{long}c.jpeg"[1:])
    for output in (None, tmp_path / "out", folder):
        tasks = _tasks(sorted(folder.iterdir()), output, ".webp")
        names = {task.destination.name for task in tasks}
        assert len(names) == 3
        assert all(len(os.fsencode(name)) <= 255 and name.endswith(".webp") for name in names)
    single = _tasks([folder / f"{long}a.jpg"], None)[0].destination
    single.touch()
    assert single.exists()


def test_accents_that_are_composed_differently_are_kept_apart(tmp_path: Path) -> None:
    """Names that differ in the composition of an accent alone would be one file on some systems."""
    folder = _tree(tmp_path / "in", "caf\u00e9.jpg", "cafe\u0301.jpg")
    if len(list(folder.iterdir())) == 1:
        pytest.skip("this file system does not tell them apart")
    names = [unicodedata.normalize("NFC", task.destination.name) for task in _tasks([folder], tmp_path / "out")]
    assert len(set(names)) == 2


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    """Any bytes that a file system takes as a name reach the name of the result."""
    photo = os.fsencode(tmp_path) + b"/caf\xe9\n.jpg"
    try:
        Path(os.fsdecode(photo)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (task,) = _tasks([tmp_path], tmp_path / "out")
    assert os.fsencode(task.destination.name) == b"caf\xe9\n.png"


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    """Hidden files and folders of a folder are not touched; a hidden file named on its own is."""
    _tree(tmp_path / "in", ".hidden.jpg", ".cache/a.jpg", "._a.jpg", "a.jpg")
    assert list(_plan([tmp_path / "in"], tmp_path / "out")) == ["in/a.jpg"]
    assert len(_tasks([tmp_path / "in/.hidden.jpg"], tmp_path / "out.png")) == 1


def test_links_do_not_loop(tmp_path: Path) -> None:
    """A link back into the folder does not lead in circles; a link to a photo is a photo."""
    folder = _tree(tmp_path / "in", "a.jpg", "deep/b.jpg")
    (folder / "deep" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "c.jpg").symlink_to(folder / "a.jpg")
    assert list(_plan([folder], tmp_path / "out")) == ["in/a.jpg", "in/c.jpg", "in/deep/b.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_pipes_in_a_folder_are_left_out(tmp_path: Path) -> None:
    """A FIFO with a photo's name would stall the run, so it is no photo; nor is a folder with such a name."""
    folder = _tree(tmp_path / "in", "a.jpg", "folder.jpg/b.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert list(_plan([folder], tmp_path / "out")) == ["in/a.jpg", "in/folder.jpg/b.jpg"]


def test_missing_source_is_refused(tmp_path: Path) -> None:
    """Sources of which none exists are an error before any work; one among others is a photo that will fail."""
    _tree(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=r"nowhere\.jpg"):
        _tasks([tmp_path / "nowhere.jpg"], None)
    assert [task.source.name for task in _tasks([tmp_path / "a.jpg", tmp_path / "nowhere.jpg"], None)] == [
        "a.jpg",
        "nowhere.jpg",
    ]


def test_names_longer_than_file_systems_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no file can have is a photo that does not exist, alone and among others."""
    _tree(tmp_path, "a.jpg")
    impossible = tmp_path / ("n" * 300 + ".jpg")
    assert run(cli, ["remove", str(impossible), "-m", "nowhere.onnx"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert [task.source for task in _tasks([tmp_path / "a.jpg", impossible], None)] == [tmp_path / "a.jpg", impossible]
    with pytest.raises(OptionError, match="folder"):
        _tasks([tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / ("n" * 300 + ".png"))


@pytest.mark.parametrize("name", ["out.png", "new.PNG", "new.jpg", "there.txt"])
def test_several_photos_need_a_folder(name: str, tmp_path: Path) -> None:
    """Several photos do not fit into one file, whether it exists or its name is that of a picture."""
    _tree(tmp_path, "a.jpg", "b.jpg", "out.png", "there.txt", "in/c.jpg")
    for sources in ([tmp_path / "a.jpg", tmp_path / "b.jpg"], [tmp_path / "in"]):
        with pytest.raises(OptionError, match="folder"):
            _tasks(sources, tmp_path / name)


def test_folder_with_the_name_of_a_picture_is_a_folder(tmp_path: Path) -> None:
    """A slash at the end, or a folder that exists, makes a folder of any name."""
    _tree(tmp_path, "a.jpg", "b.jpg", "there.png/keep")
    sources = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert len(_tasks(sources, f"{tmp_path}/new.png/")) == len(_tasks(sources, tmp_path / "there.png")) == 2


def test_folder_without_photos_gives_no_tasks(tmp_path: Path) -> None:
    """An empty folder is no error of the assignment."""
    assert _tasks([_tree(tmp_path / "in", "readme.txt")], tmp_path / "out") == []


def test_results_on_several_drives_are_all_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On Windows paths on several drives have no folder in common; the totals name each."""
    monkeypatch.setattr(summary, "os", SimpleNamespace(path=ntpath, curdir="."))
    outputs = ("C:\\a\\x.png", "D:\\y.png")
    summary.print_totals([{"source": "x", "output": name, "status": "ok", "confidence": 1.0} for name in outputs])
    assert "2 done, 0 not; results in C:\\a\\, D:\\" in capsys.readouterr().err
