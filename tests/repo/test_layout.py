"""The tree keeps the shape that the architecture describes."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
SOURCES = [
    path for top in ("platform", "pipelines", "serve_apps", "cluster") for path in sorted((ROOT / top).rglob("*.py"))
]
FOLDERS = {"platform", "pipelines", "serve_apps", "tune_configs", "cluster", "tests", "docs", ".ci"}
FILES = {
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "Makefile", "mkdocs.yml"),
    *(".gitignore", ".pre-commit-config.yaml"),
}


def test_top_level_holds_only_what_belongs_there() -> None:
    """No folder or file appears at the top that the architecture does not name."""
    if not any(TRACKED):
        pytest.skip("not a git checkout")
    top = {Path(name).parts[0] for name in TRACKED if name}
    assert top <= FOLDERS | FILES
    assert top >= FOLDERS | FILES


def test_standard_library_keeps_its_platform_module() -> None:
    """`import platform` in the project's root is the standard library's."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    found = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system(), platform.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in found.stdout


def test_import_rules_hold() -> None:
    """Nobody imports a layer above, and heavy packages stay where they belong."""
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_described_layers_are_those_that_are_checked() -> None:
    """The architecture page lists the layers of the import contract, in their order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = " → ".join(f"`{layer.replace('cutray.', '')}`" for layer in layers if layer != "cluster")
    assert listed in " ".join((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split())


def test_import_is_light() -> None:
    """`import cutray` and its command line load no numerical package."""
    heavy = "{'numpy', 'cv2', 'PIL', 'torch', 'ray', 'openvino', 'onnxruntime', 'pydantic', 'rich'}"
    script = f"import sys, cutray, cutray.cli; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_wheel_holds_all_that_the_commands_need(tmp_path: Path) -> None:
    """The wheel installs the library, the jobs and the endpoint with all their data, and nothing else."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).parts[0] for name in names if ".dist-info" not in name} == {"cutray", "pipelines", "serve_apps"}
    kept = subprocess.run(
        ["git", "ls-files", "pipelines", "serve_apps", "platform/cutray"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert {name.removeprefix("platform/") for name in kept} <= set(names)
    assert {"cutray/models/weights.toml", "serve_apps/remover/page/index.html", "cutray/py.typed"} <= set(names)
    spaces = {f"pipelines/tune_configs/{path.name}" for path in (ROOT / "tune_configs").glob("*.yaml")}
    assert spaces and spaces <= set(names)
    weights = {Path(name).name for name in names if name.endswith((".onnx", ".pth", ".safetensors"))}
    assert weights == {"refiner.onnx", "u2net-lean.onnx", "u2netp-distilled.onnx"}


def test_every_folder_says_what_it_is() -> None:
    """Each top-level folder has a README of at most 60 lines."""
    for folder in FOLDERS - {"docs", ".ci"}:
        assert len((ROOT / folder / "README.md").read_text().splitlines()) <= 60, folder


def test_files_and_functions_fit_on_a_few_screens() -> None:
    """No file of Python exceeds 350 lines, the chain 200, no function 80, and no module is an attic."""
    assert len((ROOT / "platform/cutray/chain.py").read_text().splitlines()) < 200
    for path in (ROOT / "tests").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        assert path.stem not in {"utils", "common", "helpers", "misc"}, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 80, f"{path}: {node.name}"


def test_versions_have_safe_floors() -> None:
    """Packages with known holes are required in versions that closed them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    wanted = " ".join([*project["dependencies"], *extras])
    assert "pillow>=12.3" in wanted
    assert "torch>=2.6" in wanted


def test_no_machine_leaks_into_the_tree() -> None:
    """No tracked text names a path of the machine it was written on, or an index server."""
    for name in TRACKED:
        path = ROOT / name
        if not name or not path.is_file() or path.suffix in {".webp", ".png", ".npz"} or path == Path(__file__):
            continue
        text = path.read_text(errors="replace")
        for leak in ("/wo" + "rk/", "/ro" + "ot/", "/tmp/" + "w/", "pypi" + ".org/simple", "index" + "-url"):
            assert leak not in text, f"{name}: {leak}"


def test_folder_pages_name_what_is_there() -> None:
    """The README of each folder of code names every module and folder directly in it."""
    for folder, inner in (("platform", "cutray"), ("pipelines", "."), ("serve_apps", "."), ("serve_apps", "remover")):
        page = (ROOT / folder / "README.md").read_text()
        here = [path for path in (ROOT / folder / inner).iterdir() if not path.name.startswith(("__", "."))]
        names = [path.name for path in here if path.is_dir() or path.suffix == ".py"]
        assert not [name for name in names if name not in page], folder


def test_no_folder_of_jobs_is_flat() -> None:
    """`pipelines/` has at most 14 modules beside its folders: what has parts has a folder."""
    assert len(list((ROOT / "pipelines").glob("*.py"))) <= 14


@pytest.mark.parametrize(
    ("tests", "side_by_side"),
    [("tests", False), ("tests/fault", False), ("tests/unit tests/fault/test_image.py", False), ("tests/e2e", True)],
)
def test_faults_have_the_machine_to_themselves(tests: str, side_by_side: bool) -> None:
    """`make test` runs files side by side only where none of them kills processes."""
    told = subprocess.run(
        ["make", "-n", "test", f"TESTS={tests}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (command,) = [line for line in told.stdout.splitlines() if "pytest" in line]
    assert (" -n " in command) is side_by_side


def test_imports_have_no_circle() -> None:
    """No module imports itself through others, not even late."""
    packages = ("cutray", "pipelines", "serve_apps", "cluster")
    graph = grimp.build_graph(*packages, cache_dir=None, exclude_type_checking_imports=True)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
