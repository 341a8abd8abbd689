"""The README and the pages of docs/ say nothing that is not so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache

import click
import pytest

from cutray.cli import cli
from tests.pages import FOLDER_PAGES, GROUPS, PAGES, ROOT, RUNNABLE, blocks
from tests.unit.test_cli_extras import NEEDY

ALL_PAGES = [*PAGES, *FOLDER_PAGES]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _commands() -> list[tuple[str, str]]:
    """Every command line of every page, with pipes and comments taken off, once."""
    found = {}
    for page in ALL_PAGES:
        text = page.read_text()
        inline = re.findall(r"`((?:make|cutray) [^`]+)`", text)
        shell = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
        for line in [*inline, *(line for block in shell for line in block.splitlines())]:
            for part in re.split(r"\|(?!\|)|&&|>", re.sub(r"(^|\s)#.*", "", line)):
                if part.strip().startswith(("make ", "cutray ")) and "<" not in part:
                    found.setdefault(part.strip(), page.relative_to(ROOT).as_posix())
    return [(page, command) for command, page in found.items()]


@cache
def _options(*verb: str) -> set[str]:
    """Every option of a verb, with those that its groups take."""
    context = click.Context(cli, info_name="cutray")
    command: click.Command = cli
    found = {"--help", "-h"}
    for word in verb:
        assert isinstance(command, click.Group)
        child = command.get_command(context, word)
        assert child is not None, f"cutray {' '.join(verb)}: there is no {word!r}"
        command, context = child, click.Context(child, parent=context, info_name=word)
    for parameter in command.params:
        found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def _verb(words: list[str]) -> list[str]:
    """The verb and, below a group of verbs, the second one."""
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, f"cutray has no verb {words[1]!r}"
    grouped = isinstance(command, click.Group) and len(words) > 2
    return words[1:3] if grouped and words[2] in command.commands else words[1:2]


@pytest.mark.parametrize(("page", "command"), _commands())
def test_every_command_exists(page: str, command: str) -> None:
    """Each `make` target and each `cutray` verb with its options is there."""
    words = shlex.split(command)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        assert words[1] in targets, page
        return
    if words[1].startswith("-"):
        return
    known = _options(*_verb(words))
    own = words[: words.index("--")] if "--" in words else words
    for option in (word.split("=")[0] for word in own if re.match("--?[a-z]", word)):
        assert option in known or (option[:2] in known and option[1] != "-"), f"{page}: {command}: {option}"


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.name)
def test_every_block_is_run_or_says_why_not(block) -> None:  # type: ignore[no-untyped-def]
    """A block of code belongs to a group of tests that runs it, or the line above it gives a reason."""
    if block.language == "text":
        return  # what a program prints, or a drawing
    if block.reason:
        assert len(block.reason.split()) >= 3, "give a reason"
    else:
        assert block.language in RUNNABLE or block.group != "quick", f"{block.name}: nothing runs {block.language}"
        assert block.group in GROUPS, f"{block.name}: no tests run the group {block.group!r}"
        assert (ROOT / GROUPS[block.group]).is_file()


def test_every_extra_that_is_installed_exists() -> None:
    """Each `pip install "cutray[...]"` names extras that the package has."""
    for page in ALL_PAGES:
        for names in re.findall(r"cutray\[([\w,-]+)\]", page.read_text()):
            assert set(names.split(",")) <= set(PROJECT["optional-dependencies"]), f"{page}: {names}"


def _brought(extras: set[str]) -> set[str]:
    """Which extras an installation has, with those that they bring; GPUs have an ONNX Runtime of their own."""
    own = PROJECT["optional-dependencies"]
    lines = [line for extra in extras for line in own[extra]]
    inner = {name for line in lines for found in re.findall(r"^cutray\[([^]]+)\]", line) for name in found.split(",")}
    return extras | (_brought(inner) if inner else set()) | ({"onnx"} if "gpu" in extras else set())


@pytest.mark.parametrize("block", [one for one in blocks("sh") if "pip install" in one.text], ids=lambda one: one.name)
def test_what_a_block_installs_is_enough_for_it(block) -> None:  # type: ignore[no-untyped-def]
    """Verbs that stand below a `pip install "cutray[...]"` need no other extras than those."""
    named = re.findall(r"pip install \S*\[([\w,]+)\]", block.text)
    there = _brought({extra for names in named for extra in names.split(",")})
    for verb in re.findall(r"^cutray ([\w-]+)", block.text, re.MULTILINE):
        _, needed = NEEDY.get(verb, ([], ""))
        assert set(filter(None, needed.split(","))) <= there, f"cutray {verb} needs {needed}"


def test_every_link_leads_somewhere() -> None:
    """Relative links and pictures in all pages exist."""
    for page in ALL_PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_file_that_is_named_exists() -> None:
    """Files of the repository in commands and sentences are there."""
    folders = "cluster|docs|pipelines|platform|serve_apps|tests|tune_configs"
    named = {
        (page, path.rstrip("."))
        for page in ALL_PAGES
        for path in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\.[a-z]+", page.read_text())
        if "NAME" not in path
    }
    assert len(named) > 30
    assert not [f"{page.relative_to(ROOT)}: {path}" for page, path in sorted(named) if not (ROOT / path).exists()]


def test_python_examples_compile() -> None:
    """Python in the pages is at least Python, and imports only names that exist."""
    imports = set()
    for block in blocks("python"):
        compile(block.text, block.name, "exec")
        imports |= {line for line in block.text.splitlines() if line.startswith(("from cutray", "import cutray"))}
    assert imports
    subprocess.run([sys.executable, "-c", "\n".join(sorted(imports))], check=True, cwd=ROOT)


def test_first_runnable_line_comes_early() -> None:
    """A visitor finds something to run before line 30."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert next(number for number, line in enumerate(lines, 1) if line.startswith("make ")) < 30
