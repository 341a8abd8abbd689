"""Which photos a batch is about, and what their results are called."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cutray.errors import InputError
from cutray.imaging.encode import encode_image
from pipelines.batch.names import name_outputs
from pipelines.batch.sources import list_photos

pa = pytest.importorskip("pyarrow")


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _keys(source: str | Path, **more: list[str]) -> list[str]:
    return [photo.key for photo in list_photos(str(source), **more).photos]


def test_folder_is_listed_to_the_bottom(tmp_path: Path) -> None:
    """Photos at any depth are found; notes, hidden files and other types are not."""
    _touch(tmp_path, "b.jpg", "a/c/d.PNG", "a/notes.txt", ".hidden.jpg", ".git/e.jpg", "_cutray/f.png")
    assert _keys(tmp_path) == ["b.jpg", "a/c/d.PNG"]


def test_hints_belong_to_the_photo_beside_them(tmp_path: Path) -> None:
    """A file of hints is no photo; a photo has changed when its hints have."""
    _touch(tmp_path, "x/a.jpg", "x/b.jpg", "x/a.hints.json")
    os.utime(tmp_path / "x/a.hints.json", (5e9, 5e9))
    for source in (tmp_path, f"{tmp_path}/**/*.jpg"):
        first, second = list_photos(str(source)).photos
        assert (first.hints, second.hints) == ("x/a.hints.json", "")
        assert first.modified_ns == 5 * 10**18 > second.modified_ns
        assert first.size_bytes > second.size_bytes  # hints that are older than their photo are noticed, too


def test_target_inside_the_source_is_left_out(tmp_path: Path) -> None:
    """Results are never taken for photos."""
    _touch(tmp_path, "a.jpg", "out/a.png", "outside/b.jpg")
    assert _keys(tmp_path, exclude=[str(tmp_path / "out")]) == ["a.jpg", "outside/b.jpg"]


def test_target_with_options_in_its_address_is_left_out(tmp_path: Path) -> None:
    """An address may name an endpoint or a region; the folder is the same."""
    _touch(tmp_path, "a.jpg", "out/a.png")
    target = f"file://{tmp_path}/out?region=here"
    assert _keys(f"file://{tmp_path}", exclude=[target]) == ["a.jpg"]
    assert list_photos(f"file://{tmp_path}/out/*", exclude=[target]).from_folder


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jpg", ["a.jpg"]), ("**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/c.jpg"]), ("x/*/c.*", ["y/c.jpg"])],
)
def test_patterns_choose(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    """A star stays within one folder, two stars cross them, and names begin after the fixed part."""
    _touch(tmp_path, "a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg")
    assert _keys(f"{tmp_path}/{pattern}") == expected


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_lists_name_photos(tmp_path: Path, kind: str) -> None:
    """A list in any format gives the same photos, and none of them can leave the target."""
    paths = ["x/a.jpg", "../../b.jpg", "/data/c.jpg", "s3://bucket/d.jpg"]
    file = tmp_path / f"list.{kind}"
    if kind == "csv":
        file.write_text("id,path\n" + "".join(f"1,{path}\n" for path in paths))
    elif kind == "jsonl":
        file.write_text("".join(json.dumps({"path": path}) + "\n" for path in paths))
    else:
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"path": paths}), file)
    assert _keys(file) == ["b.jpg", "bucket/d.jpg", "data/c.jpg", "x/a.jpg"]


def test_list_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    """Two photos of one name would be one result."""
    file = tmp_path / "list.csv"
    file.write_text("path\na.jpg\n./a.jpg\n")
    with pytest.raises(InputError, match="twice"):
        list_photos(str(file))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", 'path\n"' + "a.jpg\n" * 30_000),
        ("list.jsonl", "5\n"),
        ("list.jsonl", '{"path": "a.jpg"}\n5\n'),
        ("list.jsonl", "null\n"),
        ("list.jsonl", "{\n"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, name: str, content: str) -> None:
    """An unclosed quote or a line that is no object is an error that names the list."""
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(InputError, match=r"the list 'list.* cannot be read"):
        list_photos(str(file))


def test_missing_and_empty_sources_are_refused(tmp_path: Path) -> None:
    """A wrong path is an error and not a job without photos."""
    with pytest.raises(InputError, match="not a folder"):
        list_photos(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="no photos"):
        list_photos(str(tmp_path))


def test_results_mirror_the_tree_and_never_share_a_name() -> None:
    """Equal stems keep their old ending, also where names differ in case alone."""
    names = name_outputs(["x/a.jpg", "x/a.png", "x/B.jpg", "x/b.png", "c.jpg"], {}, ".png")
    assert names["c.jpg"] == "c.png"
    assert names["x/a.jpg"] == "x/a.jpg.png"
    assert names["x/a.png"] == "x/a.png.png"
    assert len({name.casefold() for name in names.values()}) == 5


def test_names_once_given_stay() -> None:
    """A photo that comes later gives way to the one that is done."""
    names = name_outputs(["a.jpg", "a.png"], {"a.jpg": "a.webp"}, ".webp")
    assert names == {"a.jpg": "a.webp", "a.png": "a.png.webp"}


def test_names_do_not_depend_on_order() -> None:
    """The same photos get the same names however they are listed."""
    keys = ["a.jpg", "a.png", "a.jpg.png", "b.jpg"]
    assert name_outputs(keys, {}, ".png") == name_outputs(keys[::-1], {}, ".png")


def test_results_beside_their_photos_are_left_out(tmp_path: Path) -> None:
    """Cutray's own results are told by their mark, not their name; a pattern takes them all the same."""
    _touch(tmp_path, "a.jpg", "b.jpg", "b.png")
    result = encode_image(np.zeros((2, 2, 4), np.uint8), "PNG")
    for name in ("a.png", "b.jpg.png"):
        (tmp_path / name).write_bytes(result)
    listing = list_photos(str(tmp_path))
    assert [photo.key for photo in listing.photos] == ["a.jpg", "b.jpg", "b.png"]
    assert (listing.from_folder, listing.own_results) == (True, 2)
    assert not list_photos(f"{tmp_path}/*.png").from_folder
    assert _keys(f"{tmp_path}/*.png") == ["a.png", "b.jpg.png", "b.png"]


def test_pattern_in_the_folder_of_the_results_leaves_them_out(tmp_path: Path) -> None:
    """With results beside the photos, a second run would else make results of the first one's."""
    _touch(tmp_path, "a.jpg", "b.png", "x/c.jpg")
    for name in ("a.png", "x/c.png"):
        (tmp_path / name).write_bytes(encode_image(np.zeros((2, 2, 4), np.uint8), "PNG"))
    (tmp_path / "link").symlink_to(tmp_path)
    for target in (tmp_path, tmp_path / "link"):
        listing = list_photos(f"{tmp_path}/**/*.*", exclude=[str(target)])
        assert [photo.key for photo in listing.photos] == ["a.jpg", "b.png", "x/c.jpg"]
        assert (listing.from_folder, listing.own_results) == (True, 2)
