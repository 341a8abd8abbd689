"""The command line as a person or a script uses it: one process per test, real photos, the real network."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PHOTOS, require_weights
from tests.hostile import BOMBS, impostors
from tests.pictures import saved

# Hostile files that are quick to make; all of them are met by the tests of the decoder.
QUICK_BOMBS = (
    "hollow.png",
    "scans.jpg",
    "fill.jpg",
    "canvas.gif",
    "frames.gif",
    "canvas.webp",
    "huge.tiff",
    "huge.bmp",
)


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    """Skip all of this without the small model."""
    require_weights("u2netp")


def _cutray(
    *arguments: object, stdin: bytes | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `cutray remove` with the small model in a process of its own; no run may end in a trace."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "cutray.cli", "remove", "-m", "u2netp", "--offline", *map(str, arguments)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=cwd, env=environment, timeout=1200, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def _tree(folder: Path) -> list[str]:
    """Return all files of a folder, to show that nothing else was left there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _copy(photo_files: Path, folder: Path, *names: str) -> Path:
    """Copy sample photos into a folder, under paths such as ``pets/chelsea.jpg``."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((photo_files / target.name).read_bytes())
    return folder


def _flat() -> bytes:
    """Return a photo of nothing."""
    return saved(np.full((120, 160, 3), 128, np.uint8), "PNG")


def test_one_photo(photo_files: Path, tmp_path: Path) -> None:
    """A photo gets a cutout beside it, whose path is printed; the photo is left alone."""
    folder = _copy(photo_files, tmp_path, "coffee.jpg")
    done = _cutray("coffee.jpg", cwd=folder)
    assert (done.returncode, done.stdout.decode().strip(), done.stderr) == (0, "coffee-cutout.png", b"")
    assert _tree(folder) == ["coffee-cutout.png", "coffee.jpg"]
    cutout = Image.open(folder / "coffee-cutout.png")
    assert (cutout.mode, cutout.size) == ("RGBA", Image.open(folder / "coffee.jpg").size)
    opacity = np.asarray(cutout)[..., 3]
    assert opacity.min() == 0
    assert opacity.max() == 255


def test_webp_on_a_colour(photo_files: Path, tmp_path: Path) -> None:
    """The output's name chooses the format, and a background makes it opaque."""
    done = _cutray(photo_files / "coffee.jpg", "-o", tmp_path / "new" / "out.webp", "--background", "white")
    assert done.returncode == 0
    written = Image.open(tmp_path / "new" / "out.webp")
    assert (written.format, written.mode) == ("WEBP", "RGB")
    assert np.asarray(written)[:8, :8].min() >= 250


def test_folder_with_a_bad_file(photo_files: Path, tmp_path: Path) -> None:
    """A folder is mirrored; a bad file in it is named on standard error and fails the run, not the others."""
    folder = _copy(photo_files, tmp_path / "in", "coffee.jpg", "pets/chelsea.jpg", "people/astronaut.jpg")
    (folder / "pets" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("not a photo")
    done = _cutray(folder, "-o", f"{tmp_path}/out/")
    assert done.returncode == 1
    assert _tree(tmp_path / "out") == ["coffee.png", "people/astronaut.png", "pets/chelsea.png"]
    assert [line.split("/")[-1] for line in done.stdout.decode().split()] == [
        "coffee.png",
        "astronaut.png",
        "chelsea.png",
    ]
    errors = done.stderr.decode()
    assert "broken.jpg: " in errors
    assert "3 done, 1 not" in errors


def test_pipe_and_file_give_the_same_bytes(photo_files: Path, tmp_path: Path) -> None:
    """From standard input to standard output comes the same file as by name, and nothing else."""
    piped = _cutray("-", stdin=(photo_files / "coffee.jpg").read_bytes())
    named = _cutray(photo_files / "coffee.jpg", "-o", tmp_path / "out.png")
    assert (piped.returncode, named.returncode, piped.stderr) == (0, 0, b"")
    assert piped.stdout == (tmp_path / "out.png").read_bytes()
    assert Image.open(io.BytesIO(piped.stdout)).mode == "RGBA"


def test_report_as_json(photo_files: Path, tmp_path: Path) -> None:
    """--json prints one document and nothing else: per photo what became of it, and the counts."""
    folder = _copy(photo_files, tmp_path / "in", "coffee.jpg")
    (folder / "bad.png").write_bytes(b"nonsense")
    (folder / "flat.png").write_bytes(_flat())
    done = _cutray(folder, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    report: dict[str, Any] = json.loads(done.stdout)
    assert set(report) == {"images", "ok", "failed", "skipped"}
    assert (report["ok"], report["failed"]) == (1, 2)
    rows = {Path(row["source"]).name: row for row in report["images"]}
    good, bad, flat = rows["coffee.jpg"], rows["bad.png"], rows["flat.png"]
    assert good["status"] == "ok"
    assert Path(good["output"]).is_file()
    assert 0.4 <= good["confidence"] <= 1
    assert (good["width_px"], good["height_px"], good["model"]) == (600, 400, "u2netp")
    assert set(good["timings_ms"]) == {"decode", "segment", "matte", "render", "encode"}
    assert (bad["status"], bad["output"]) == ("failed", None)
    assert bad["code"] in ("not_decodable", "unsupported_format")
    assert bad["reason"]
    assert (flat["status"], flat["output"], flat["subject_found"]) == ("no_subject", None, False)


def test_existing_results_are_safe(photo_files: Path, tmp_path: Path) -> None:
    """An existing result is an error, is passed over with --skip-existing, and replaced with --overwrite alone."""
    photo, out = photo_files / "coffee.jpg", tmp_path / "out.png"
    out.write_bytes(b"precious")
    refused = _cutray(photo, "-o", out)
    assert refused.returncode == 2
    assert b"--overwrite" in refused.stderr
    skipped = _cutray(photo, "-o", out, "--skip-existing")
    assert (skipped.returncode, skipped.stderr) == (0, b"")
    assert out.read_bytes() == b"precious"
    replaced = _cutray(photo, "-o", out, "--overwrite")
    assert replaced.returncode == 0
    assert Image.open(out).mode == "RGBA"
    assert _tree(tmp_path) == ["out.png"]


def test_no_subject(tmp_path: Path) -> None:
    """A photo of nothing exits 1 and writes no file, unless empty results are allowed."""
    photo = tmp_path / "flat.png"
    photo.write_bytes(_flat())
    done = _cutray(photo)
    assert done.returncode == 1
    assert b"no subject found" in done.stderr
    assert _tree(tmp_path) == ["flat.png"]
    piped = _cutray("-", stdin=_flat())
    assert (piped.returncode, piped.stdout) == (1, b"")
    assert _cutray(photo, "--allow-empty").returncode == 0
    assert np.asarray(Image.open(tmp_path / "flat-cutout.png")).max() == 0


def test_hostile_folder(photo_files: Path, tmp_path: Path) -> None:
    """Bombs, impostors, damaged files, pipes and loops in a folder get a reason each; the photos are done."""
    folder = _copy(photo_files, tmp_path / "in", "coffee.jpg", "zzz/rocket.jpg")
    for name in QUICK_BOMBS:
        (folder / name).write_bytes(BOMBS[name]())
    for number, data in enumerate(impostors().values()):
        (folder / f"impostor-{number}.jpg").write_bytes(data)
    whole = (photo_files / "chelsea.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "line\nbreak ünï 😀.png").write_bytes(b"junk")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
    done = _cutray(folder, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    rows = {Path(row["source"]).name: row for row in report["images"]}
    assert len(rows) == len(QUICK_BOMBS) + len(impostors()) + 5
    assert rows["coffee.jpg"]["status"] == rows["rocket.jpg"]["status"] == "ok"
    assert {"coffee.png", "zzz/rocket.png"} <= set(_tree(tmp_path / "out"))
    assert all(row["reason"] and row.get("code") != "io" for row in rows.values() if row["status"] != "ok")
    assert rows["half.jpg"]["code"] == "not_decodable"


def test_sample_photos_all_have_subjects(photo_files: Path, tmp_path: Path) -> None:
    """Several photos named one by one go into a new folder, as masks if so asked."""
    sources = [photo_files / f"{name}.jpg" for name in PHOTOS]
    done = _cutray(*sources, "-o", tmp_path / "masks", "--only-mask")
    assert done.returncode == 0, done.stderr.decode()
    assert _tree(tmp_path / "masks") == sorted(f"{name}.png" for name in PHOTOS)
    assert all(Image.open(tmp_path / "masks" / f"{name}.png").mode == "L" for name in PHOTOS)
