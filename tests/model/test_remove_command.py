"""`cutray remove` as a person uses it again and again: folders, pipes, a watched folder, reports."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cutray.cli import cli
from cutray.console.run import run
from cutray.imaging.picture_stream import split_pictures
from cutray.imaging.provenance import is_result

# Part of the package, so that every machine has it.
_FAST = ["-m", "u2netp-distilled", "--quality", "fast", "--offline"]
_TIMEOUT_S = 600


@pytest.fixture
def folder(photo_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two photos, as the current one."""
    for name in ("astronaut.jpg", "coffee.jpg"):
        shutil.copy(photo_files / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _stamps(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in _names(folder)}


def _star(folder: Path, *options: str) -> int:
    """Do what a shell makes of `cutray remove *`."""
    return run(cli, ["remove", *sorted(os.listdir(folder)), *_FAST, *options])


def _piped(data: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cutray", "remove", *options, *_FAST],
        input=data,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_S,
    )


def test_everything_again_does_what_is_new(folder: Path, photo_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second `remove *` leaves results and photos as they are and does the new photo alone."""
    assert _star(folder) == 0
    first = _stamps(folder)
    assert set(first) == {"astronaut.jpg", "coffee.jpg", "astronaut-cutout.png", "coffee-cutout.png"}
    shutil.copy(photo_files / "chelsea.jpg", folder / "new.jpg")
    capsys.readouterr()
    assert _star(folder) == 0
    shown = capsys.readouterr()
    assert shown.out == "new-cutout.png\n"
    assert "1 done, 0 not" in shown.err and "2 left as they are" in shown.err
    assert "2 results of Cutray not taken as photos" in shown.err
    second = _stamps(folder)
    assert second.keys() - first.keys() == {"new.jpg", "new-cutout.png"}
    assert {name: second[name] for name in first} == first


@pytest.mark.parametrize("options", [[], ["--skip-existing"]])
def test_results_beside_the_photos(options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The photos' own folder as the output: three runs, and each photo has one result."""
    for _ in range(3):
        assert run(cli, ["remove", ".", "-o", ".", *options, *_FAST]) == 0
    assert _names(folder) == ["astronaut.jpg", "astronaut.png", "coffee.jpg", "coffee.png"]
    assert "nothing new" in capsys.readouterr().err


def test_file_of_others_is_a_failure_and_the_rest_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that Cutray did not make is never replaced nor passed over in silence; other photos are done."""
    (folder / "out").mkdir()
    (folder / "out/coffee.png").write_bytes(b"mine")
    assert run(cli, ["remove", ".", "-o", "out", *_FAST]) == 1
    assert (folder / "out/coffee.png").read_bytes() == b"mine"
    assert is_result(folder / "out/astronaut.png")
    shown = capsys.readouterr().err
    assert "coffee.jpg: 'out/coffee.png' exists" in shown
    assert "1 done, 1 not; results in out/" in shown


def test_changed_photo_is_not_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result that is older than its photo is no result of it."""
    assert _star(folder) == 0
    later = time.time() + 60
    os.utime(folder / "coffee.jpg", (later, later))
    capsys.readouterr()
    assert _star(folder) == 1
    told = "coffee.jpg: 'coffee-cutout.png' exists, made before the photo or its hints changed"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_report_has_a_row_for_each_photo(ending: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--report tells of each photo what became of it, with its confidence, or why it has no result."""
    (folder / "bad\x1b[2J.jpg").write_bytes(b"\xff\xd8\xff broken")
    report = folder / f"report{ending}"
    assert run(cli, ["remove", ".", "-o", "out", "--report", str(report), *_FAST]) == 1
    shown = capsys.readouterr()
    assert "bad\\x1b[2J.jpg: " in shown.err and "\x1b" not in shown.out + shown.err
    text = report.read_text()
    rows = json.loads(text)["images"] if ending == ".json" else list(csv.DictReader(io.StringIO(text)))
    by_name = {Path(row["source"]).name: row for row in rows}
    assert {name: row["status"] for name, row in by_name.items()} == {
        "astronaut.jpg": "ok",
        "bad\x1b[2J.jpg": "failed",
        "coffee.jpg": "ok",
    }
    assert float(by_name["coffee.jpg"]["confidence"]) > 0.4
    assert by_name["bad\x1b[2J.jpg"]["reason"]
    assert run(cli, ["remove", ".", "-o", "out", "--report", str(report), *_FAST]) == 2


def test_doubtful_results_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The end of a run names the results that the network was least sure of, with their confidence."""
    Image.effect_noise((200, 200), 90).convert("RGB").save(folder / "noise.png")
    run(cli, ["remove", ".", "-o", "out", "--min-confidence", "0", "--min-area-fraction", "0", *_FAST])
    assert "least sure, worth a look (confidence): noise.png (0." in capsys.readouterr().err.replace("./", "")


def test_several_pictures_in_a_pipe(folder: Path, photo_files: Path) -> None:
    """Two photos in one pipe give two results: numbered in a folder, or one after the other in a pipe."""
    data = b"".join((photo_files / name).read_bytes() for name in ("coffee.jpg", "chelsea.jpg"))
    done = _piped(data, "-", "-o", "out/")
    assert done.returncode == 0, done.stderr
    assert _names(folder / "out") == ["1.png", "2.png"]
    results = split_pictures(_piped(data, "-", "-o", "/dev/stdout").stdout)
    assert results == [(folder / "out" / name).read_bytes() for name in ("1.png", "2.png")]
    refused = _piped(data, "-", "-o", "one.png")
    assert refused.returncode == 2
    assert b"2 pictures in the pipe, and one file" in refused.stderr
    assert not (folder / "one.png").exists()


def test_one_bad_picture_in_a_pipe(folder: Path, photo_files: Path) -> None:
    """A damaged picture between others fails by its number; an empty pipe is an error of its own."""
    whole = (photo_files / "coffee.jpg").read_bytes()
    done = _piped((photo_files / "chelsea.jpg").read_bytes() + b"\x89PNG\r\n\x1a\n" + whole, "-", "-o", "out/")
    assert done.returncode == 1
    assert b"picture 2 of the pipe: " in done.stderr
    assert _names(folder / "out") == ["1.png"]
    assert b"nothing came through the pipe" in _piped(b"", "-").stderr


def test_watched_folder(folder: Path, photo_files: Path) -> None:
    """--watch does what is there and what comes, also a file that grows, and Ctrl+C ends it with a summary."""
    program = subprocess.Popen(
        [sys.executable, "-m", "cutray", "remove", ".", "-o", ".", "--watch", *_FAST],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for(lambda: {"astronaut.png", "coffee.png"} <= set(_names(folder)))
        data = (photo_files / "chelsea.jpg").read_bytes()
        with open(folder / "late.jpg", "wb") as file:
            for start in range(0, len(data), len(data) // 4 + 1):
                file.write(data[start : start + len(data) // 4 + 1])
                file.flush()
                time.sleep(0.3)
        _wait_for(lambda: "late.png" in _names(folder))
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=_TIMEOUT_S)
    finally:
        program.kill()
    assert program.returncode == 0, err
    assert sorted(out.split()) == ["astronaut.png", "coffee.png", "late.png"]
    assert "watching ." in err and "3 done, 0 not" in err
    assert len(_names(folder)) == 6


def _wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
