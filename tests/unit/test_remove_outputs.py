"""Every photo gets a result of its own, and no photo is ever overwritten by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutray.commands.remove.outputs import assign_outputs
from cutray.errors import InputError, OptionError, OutputError


def _tree(root: Path, *names: str) -> Path:
    """Create files; their content does not matter to the plan."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def _plan(sources: list[Path], output: Path | str | None, suffix: str = ".png") -> dict[str, str]:
    """Return the plan as file names, relative to the folder above the first source where possible."""
    root = sources[0].parent
    tasks = assign_outputs(sources, output, suffix, "-cutout")
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
        tasks = assign_outputs([Path(name)], None, ".png", "-cutout")
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
    tasks = assign_outputs([tmp_path / "x/a.jpg", tmp_path / "y/a.jpg"], tmp_path / "out", ".png", "-cutout")
    assert [task.destination.name for task in tasks] == ["a.jpg.png", "a.jpg-2.png"]


def test_photo_named_twice_is_done_once(tmp_path: Path) -> None:
    """A photo and the folder it lies in, or the same photo twice, is one task."""
    _tree(tmp_path / "in", "a.jpg")
    assert (
        len(
            assign_outputs(
                [tmp_path / "in", tmp_path / "in/a.jpg", tmp_path / "in/a.jpg"], tmp_path / "out", ".png", ""
            )
        )
        == 1
    )


def test_order_is_stable(tmp_path: Path) -> None:
    """The plan is the same each time, in the order of names."""
    _tree(tmp_path / "in", *(f"{name}.jpg" for name in "zkamb"), "dir/q.jpg")
    plans = [assign_outputs([tmp_path / "in"], tmp_path / "out", ".png", "-cutout") for _ in range(2)]
    assert plans[0] == plans[1]
    assert [task.source.stem for task in plans[0]] == ["a", "b", "k", "m", "z", "q"]


def test_output_folder_inside_the_input_is_not_searched(tmp_path: Path) -> None:
    """Results of an earlier run are not taken for photos."""
    _tree(tmp_path / "in", "a.jpg", "out/a.png", "out/deep/b.png")
    assert _plan([tmp_path / "in"], tmp_path / "in" / "out") == {"in/a.jpg": "in/out/a.png"}


def test_photo_is_never_overwritten(tmp_path: Path) -> None:
    """A result that would land on its own or another's photo is refused, also through a link."""
    _tree(tmp_path / "in", "a.png", "b.jpg", "b-cutout.png")
    folder = tmp_path / "in"
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    for sources, output in (
        ([folder / "a.png"], folder / "a.png"),
        ([folder / "a.png"], folder),
        ([folder / "a.png"], tmp_path / "link" / "a.png"),
        ([folder], folder),
        ([folder / "b.jpg", folder / "b-cutout.png"], None),
    ):
        with pytest.raises(OutputError, match="overwrite a photo"):
            assign_outputs(sources, output, ".png", "-cutout")


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    """Hidden files and folders of a folder are not touched; a hidden file named on its own is."""
    _tree(tmp_path / "in", ".hidden.jpg", ".cache/a.jpg", "._a.jpg", "a.jpg")
    assert list(_plan([tmp_path / "in"], tmp_path / "out")) == ["in/a.jpg"]
    assert len(assign_outputs([tmp_path / "in/.hidden.jpg"], tmp_path / "out.png", ".png", "")) == 1


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
    """A source that does not exist is an error before any work, and names it."""
    _tree(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=r"nowhere\.jpg"):
        assign_outputs([tmp_path / "a.jpg", tmp_path / "nowhere.jpg"], None, ".png", "-cutout")


def test_several_photos_need_a_folder(tmp_path: Path) -> None:
    """Several photos do not fit into one existing file."""
    _tree(tmp_path, "a.jpg", "b.jpg", "out.png")
    with pytest.raises(OptionError, match="folder"):
        assign_outputs([tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / "out.png", ".png", "-cutout")


def test_folder_without_photos_gives_no_jobs(tmp_path: Path) -> None:
    """An empty folder is no error of the plan."""
    assert assign_outputs([_tree(tmp_path / "in", "readme.txt")], tmp_path / "out", ".png", "-cutout") == []
