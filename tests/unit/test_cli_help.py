"""Help says what each verb does, and wrong usage is answered with what would be right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click import BadParameter

from cutray import __version__
from cutray.cli import _VERBS, cli
from cutray.commands.remove import remove
from cutray.config import OutputSettings, RemoverSettings
from cutray.console.run import run

LIBRARY_VERBS = [verb for verb, (module, _) in _VERBS.items() if module.startswith("cutray.")]


@pytest.mark.parametrize("verb", ["", *LIBRARY_VERBS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_has_help_with_examples(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb explains itself with lines that can be copied, and exits 0."""
    assert run(cli, [*verb.split(), flag]) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(rf"^ +(?:cat photo\.jpg \| )?cutray {verb}".rstrip(), shown, re.MULTILINE)) >= 2


@pytest.mark.parametrize("verb", ["list", "pull", "show", "verify"])
def test_verbs_below_models_have_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The verbs of the second level explain themselves too."""
    assert run(cli, ["models", verb, "--help"]) == 0
    assert re.search(r"^ +[A-Z].+\.$", capsys.readouterr().out, re.MULTILINE)


def test_list_of_verbs_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of the program lists every verb with one sentence."""
    run(cli, ["--help"])
    shown = capsys.readouterr().out
    for verb, (_, line) in _VERBS.items():
        assert re.search(rf"^ +{verb} +{re.escape(line)}$", shown, re.MULTILINE)


def test_options_come_from_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Every output setting is an option of `remove`, explained by the setting's own words and default."""
    assert run(remove, ["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in OutputSettings.model_fields:
        field = RemoverSettings.model_fields[name]
        assert "--" + name.replace("_", "-") in shown
        start = str(field.description).split()[:4]
        assert " ".join(start) in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints name and version."""
    assert run(cli, ["--version"]) == 0
    assert re.fullmatch(r"cutray, version \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_photo_without_verb_is_answered_with_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever names a photo right away is told the command, with exit code 2."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"x")
    assert run(cli, [str(photo)]) == 2
    assert f"Did you mean: cutray remove {photo}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("habit", "verb"), [("i", "remove"), ("p", "remove"), ("s", "serve"), ("d", "models pull"), ("b", "remove -")]
)
def test_verbs_of_rembg_are_answered_with_ours(habit: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types a verb of rembg is told what does the same here."""
    assert run(cli, [habit, "a.jpg", "b.png"]) == 2
    assert re.search(rf"'{habit}' is no command\. Did you mean: .*cutray {verb}", capsys.readouterr().err)


def test_misspelt_verb_is_answered_with_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    """A typo in a verb is answered with the verb."""
    assert run(cli, ["remvoe", "a.jpg"]) == 2
    assert "Did you mean: cutray remove" in capsys.readouterr().err


def test_runs_as_a_module() -> None:
    """`python -m cutray` is the command line."""
    done = subprocess.run([sys.executable, "-m", "cutray", "--version"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, f"cutray, version {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["remvoe"], ["remove"], ["remove", "--no-such-option"], ["remove", "x.jpg", "--format", "gif"],
        ["remove", "x.jpg", "--encode-quality", "high"], ["models", "pull"],
        ["remove", "x.jpg", "--quality-of-life", "3"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown verbs and options, missing arguments and impossible choices exit 2 with a message, not a trace."""
    assert run(cli, arguments) == 2
    shown = capsys.readouterr()
    assert "Error" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_value_out_of_range_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A value outside its range is wrong configuration: exit 2, and all of them are named."""
    assert run(cli, ["remove", "x.jpg", "--encode-quality", "300", "--threshold", "7"]) == 2
    shown = capsys.readouterr().err
    assert "encode_quality = 300" in shown
    assert "threshold = 7" in shown


def test_missing_photo_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A photo that does not exist is a failure: exit 1, before any model is loaded."""
    assert run(cli, ["remove", "no-such-photo.jpg"]) == 1
    assert "'no-such-photo.jpg' does not exist" in capsys.readouterr().err


def test_unknown_model_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that nobody knows is answered with those that are known."""
    assert run(cli, ["models", "pull", "u3net"]) == 2
    assert re.search(r"'u3net'.*u2net, ", capsys.readouterr().err)


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`models list` names the models and whether they are on this machine."""
    assert run(cli, ["models", "list"]) == 0
    assert re.search(r"^u2net +176\.0 MB +320² +(yes|no)", capsys.readouterr().out, re.MULTILINE)


def test_whole_numbers_to_choose_from_arrive_as_numbers() -> None:
    """--looks and --bit-depth give what the settings take, and refuse any other number."""
    parent = click.Context(cli, **cli.context_settings)
    context = remove.make_context(
        "remove", ["photo.jpg", "--looks", "2", "--bit-depth", "16", "--quality", "best"], parent
    )
    settings = RemoverSettings(**{name: context.params[name] for name in ("looks", "bit_depth", "quality")})
    assert (settings.effort.looks, settings.effort.edges, settings.bit_depth) == (2, "fine", 16)
    with pytest.raises(BadParameter):
        remove.make_context("remove", ["photo.jpg", "--looks", "3"], parent)
