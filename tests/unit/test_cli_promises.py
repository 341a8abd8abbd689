"""What the README promises of every command: help with examples, errors that say what to do, nothing overwritten."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from cutray import errors
from cutray.cli import cli
from cutray.console.run import run
from cutray.engines.hardware import inspect_hardware
from cutray.imaging.encode import encode_image
from pipelines.bench.pages import page_path

ROOT = Path(__file__).parents[2]
# Why one source of weights failed; what `download` raises joins these and says what to do.
PARTS_OF_ERRORS = {"download.py", "url_download.py", "npm_package.py"}
ERRORS = {name for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.CutrayError)}


def _verbs(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb, and every verb below it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _verbs(command, (*path, name))


VERBS = list(_verbs())
_PASSES_OPTIONS_ON = {("bench", "batch")}  # to `cutray batch`, which answers for them


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_examples(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb, also of the second level, explains itself with a line that can be copied."""
    assert run(cli, [*verb, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert re.search(rf"^ +(?:cat \S+ \| )?cutray {' '.join(verb)}\b", shown.out, re.MULTILINE)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in _PASSES_OPTIONS_ON], ids=" ".join)
def test_every_verb_answers_an_unknown_option(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt option is wrong usage, with a way to the help, on standard error alone."""
    assert run(cli, [*verb, "--no-such-option"]) == 2
    shown = capsys.readouterr()
    assert "--no-such-option" in shown.err and "--help" in shown.err and shown.out == ""


def _raised() -> Iterator[tuple[str, ast.Call]]:
    """Every place in which an error is made."""
    for folder in ("platform/cutray", "pipelines", "serve_apps"):
        for path in (path for path in (ROOT / folder).rglob("*.py") if path.name not in PARTS_OF_ERRORS):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
                if name in ERRORS:
                    assert isinstance(node, ast.Call)
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_error_says_what_to_do() -> None:
    """Each error names what is allowed or what to do, beside what was got; none forgets both."""
    found = list(_raised())
    assert len(found) > 100
    silent = [
        where
        for where, call in found
        if len(call.args) < 2 and not {"allowed", "fix", None} & {keyword.arg for keyword in call.keywords}
    ]
    assert silent == []


def _dataset(folder: Path) -> Path:
    """Write the smallest data set that is one."""
    for name in ("images/a.png", "masks/a.png"):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_image(np.zeros((32, 32), np.uint8), "PNG"))
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["remove", "photo.png", "-o", "mine"],
        ["remove", "photo.png", "-o", "mine", "-f", "png"],
        ["remove", "photo.png", "-o", "new.png", "--explain", "mine.png"],
        ["remove", "photo.png", "-o", "new.png", "--report", "mine.csv"],
        ["evaluate", "data", "--report", "mine.html"],
        ["evaluate", "data", "-m", "u2netp-distilled", "--save-masks", "masks"],
        ["bench", "-o", "page.md"],
        ["bench", "batch", "-o", "page.md"],
        ["bench", "servers", "-o", "page.md"],
        ["bench", "hints", "--data", "data", "-o", "page.md"],
        ["bench", "edges", "-o", "mine.md"],
        ["bench", "edges", "--pictures", "mine.png"],
        ["bench", "gpu", "-o", "mine.md"],
        ["train", "--preset", "smoke", "--show-batch", "mine.png"],
        ["train", "--preset", "smoke", "--find-lr", "mine.png"],
        ["templates", "--try", "photo.png", "-o", "mine.png"],
        ["train-ensemble", "u2netp-distilled", "u2netp-distilled", "-o", "mine.onnx"],
        ["export", "u2netp-distilled", "-o", "mine.onnx"],
        ["export", "u2netp-distilled", "-o", "new.onnx", "--fp16"],
        ["export", "u2netp-distilled", "-o", "new.onnx", "--int8"],
        ["export", "u2netp-distilled", "-o", "new.onnx", "--openvino"],
    ],
    ids=" ".join,
)
def test_no_verb_overwrites_unasked(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the place of an output is named before any work, with exit code 2, and stays as it is."""
    monkeypatch.chdir(tmp_path)
    _dataset(tmp_path / "data")
    (tmp_path / "photo.png").write_bytes((tmp_path / "data/images/a.png").read_bytes())
    names = ("mine", "mine.png", "mine.csv", "mine.html", "mine.onnx", "new.fp16.onnx", "new.int8.npz", "new.xml")
    names += ("mine.md", page_path(Path("page.md"), inspect_hardware()).name, "masks/u2netp-distilled/a.png")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    assert run(cli, arguments) == 2
    shown = capsys.readouterr().err
    assert re.search(r"exists|names no format", shown), shown
    assert all((tmp_path / name).read_bytes() == b"mine" for name in names)
    assert not (tmp_path / "new.png").exists() and not (tmp_path / "new.onnx").exists()
    if "--overwrite" in shown:  # what is advised is there
        verb = arguments[: 1 + (arguments[0] == "bench" and not arguments[1].startswith("-"))]
        assert run(cli, [*verb, "--help"]) == 0
        assert "--overwrite" in capsys.readouterr().out
