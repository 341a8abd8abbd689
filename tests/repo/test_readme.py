"""The README says nothing that is not so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*/README.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def _commands() -> list[tuple[str, str]]:
    """Every command line of every page, with pipes and comments taken off."""
    found = []
    for page in PAGES:
        inline = re.findall(r"`((?:make|cutray) [^`]+)`", page.read_text())
        for line in [*inline, *(line for block in _blocks(page, "sh") for line in block.splitlines())]:
            for part in re.split(r"\|(?!\|)|&&|>", line.split("#")[0]):
                if part.strip().startswith(("make ", "cutray ")) and "<" not in part:
                    found.append((page.relative_to(ROOT).as_posix(), part.strip()))
    return found


@pytest.mark.parametrize(("page", "command"), _commands())
def test_every_command_exists(page: str, command: str) -> None:
    """Each `make` target and each `cutray` verb with its options is there."""
    words = shlex.split(command)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        assert words[1] in targets, page
        return
    verb = [word for word in words[1:3] if re.fullmatch(r"[a-z][a-z-]*", word)]
    grouped = verb[:1] == ["models"] or (
        verb[:1] == ["bench"] and verb[1:] in (["batch"], ["edges"], ["gpu"], ["serve"])
    )
    verb = verb if grouped else verb[:1]
    shown = subprocess.run(
        [sys.executable, "-m", "cutray.cli", *verb, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert shown.returncode == 0, f"{page}: {command}\n{shown.stderr}"
    for option in (word for word in words if word.startswith("-") and word != "-"):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown.stdout), f"{page}: {command}: {option}"


def test_every_link_leads_somewhere() -> None:
    """Relative links and pictures in all pages exist."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_file_that_is_named_exists() -> None:
    """Files of the repository in commands and sentences are there."""
    folders = "cluster|docs|pipelines|platform|serve_apps|tests|tune_configs"
    named = {
        (page, path.rstrip("."))
        for page in PAGES
        for path in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\.[a-z]+", page.read_text())
        if "NAME" not in path
    }
    assert len(named) > 30
    assert not [f"{page.relative_to(ROOT)}: {path}" for page, path in sorted(named) if not (ROOT / path).exists()]


def test_python_examples_compile() -> None:
    """Python in the README is at least Python, and imports only names that exist."""
    for block in _blocks(ROOT / "README.md", "python"):
        compile(block, "README.md", "exec")
        for line in block.splitlines():
            if line.startswith(("from cutray", "import cutray")):
                subprocess.run([sys.executable, "-c", line], check=True, cwd=ROOT)


def test_first_runnable_line_comes_early() -> None:
    """A visitor finds something to run before line 30."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert next(number for number, line in enumerate(lines, 1) if line.startswith("make ")) < 30
