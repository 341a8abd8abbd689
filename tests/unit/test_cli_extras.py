"""Without the optional packages every verb explains itself, and says how to install what it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cutray.cli import _VERBS
from cutray.console.extras import missing_modules, requires_extra
from cutray.errors import MissingExtraError

# Runs in a process of its own, in which none of the optional packages can be imported.
_PROGRAM = """
import contextlib, importlib.abc, io, json, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "mlflow", "optuna", "onnx", "onnxruntime", "safetensors", "yaml",
                                  "fastapi", "starlette", "python_multipart", "multipart", "pyarrow", "skimage",
                                  "psutil", "pillow_heif", "matplotlib", "pandas"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from cutray.cli import cli
from cutray.console.run import run

answers = []
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(cli, line)
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""

# Verbs that need more than the library, with arguments that get past the command line, and the extra they name.
NEEDY = {
    "batch": (["photos", "out"], "batch"),
    "serve": ([], "serve"),
    "train": (["--preset", "smoke"], "train"),
    "train-ensemble": (["a.safetensors", "b.safetensors", "-o", "x.onnx"], "onnx,train"),
    "tune": (["some.yaml"], "train"),
    "export": (["u2netp"], "onnx,torch"),
    "register": (["a.onnx", "--name", "x", "--data", "held-out"], "onnx,train"),
}


def _answers(*lines: list[str]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(lines)], capture_output=True, text=True, check=True, timeout=600
    )
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def test_help_needs_no_optional_package() -> None:
    """Every verb's --help works with the library's own dependencies alone."""
    for verb, (code, out, err) in zip(_VERBS, _answers(*([verb, "--help"] for verb in _VERBS)), strict=True):
        assert (code, err) == (0, ""), verb
        assert "Usage:" in out, verb


def test_a_verb_without_its_packages_says_how_to_install_them() -> None:
    """Running a verb whose packages are missing exits 2 with the install command, before any work."""
    lines = [[verb, *arguments] for verb, (arguments, _) in NEEDY.items()]
    for (verb, (_, extra)), (code, out, err) in zip(NEEDY.items(), _answers(*lines), strict=True):
        assert (code, out) == (2, ""), verb
        assert f"pip install 'cutray[{extra}]'" in err, verb
        assert "not installed" in err and "Traceback" not in err, verb


def test_missing_packages_are_named_together() -> None:
    """All that is missing is named at once; what is there does not stand in the way."""
    assert missing_modules(["json", "no_such_module_a"]) == ["no_such_module_a"]

    @requires_extra("some", "no_such_module_a", "json", "no_such_module_b")
    def command() -> None: ...

    with pytest.raises(MissingExtraError, match=r"no_such_module_a, no_such_module_b are .*cutray\[some\]"):
        command()
    assert requires_extra("some", "json")(lambda: 7)() == 7
