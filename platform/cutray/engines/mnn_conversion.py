"""Convert ONNX files for MNN, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cutray.engines.kept_file import KeptFile
from cutray.engines.onnx_graph import make_batch_dynamic
from cutray.errors import EngineError, EngineUnavailableError

# The converter alone. The module around it, MNN.tools, would install a package and report each conversion.
_TOOLS = "_tools"
_CONVERT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_tools", sys.argv[1])
tools = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tools)
sys.exit(not tools.mnnconvert(["", "-f", "ONNX", "--modelFile", sys.argv[2], "--MNNModel", sys.argv[3]]))
"""


def converted_file(folder: Path, sha256: str, input_size_px: int, version: str) -> KeptFile:
    """Return where the converted file of one network is kept.

    Args:
        folder: Where such files lie.
        sha256: Hash of the ONNX file.
        input_size_px: Side of the network's input, in pixels.
        version: MNN's version.
    """
    stem = f"{sha256}-{input_size_px}-mnn"
    return KeptFile(folder / f"{stem}{version}.mnn", f"{stem}*.mnn")


@contextlib.contextmanager
def convert(path: Path, input_size_px: int, kept: KeptFile | None) -> Iterator[Path]:
    """Convert an ONNX file, without the outputs that serve training alone.

    Args:
        path: The ONNX file.
        input_size_px: Side of the network's input, in pixels.
        kept: Where the result may be kept, so that it is made on the same disk; None makes it among temporary files.

    Yields:
        The converted file, which is gone afterwards unless it was moved away.

    Raises:
        EngineUnavailableError: The ``onnx`` package or MNN's converter is not installed.
        EngineError: The file cannot be read or converted.
    """
    with _working_folder(kept) as folder:
        graph, _ = make_batch_dynamic(path, input_size_px)
        (folder / "network.onnx").write_bytes(graph)
        # A process of its own: the converter prints, and leaves a file in its folder for a moment; it may crash.
        run = subprocess.run(
            [sys.executable, "-I", "-c", _CONVERT, _find_converter(), "network.onnx", "network.mnn"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        converted = folder / "network.mnn"
        if run.returncode or not converted.is_file():
            said = (run.stderr + run.stdout).strip().splitlines() or [f"exit code {run.returncode}"]
            raise EngineError(
                got=f"MNN cannot convert {path}: {said[-1]}", fix="try engine openvino or onnxruntime (--engine)"
            )
        yield converted


@contextlib.contextmanager
def _working_folder(kept: KeptFile | None) -> Iterator[Path]:
    """Provide a folder that is removed at the end: in the cache if that can be written, else a temporary one."""
    place: Path | None = None
    if kept:
        with contextlib.suppress(OSError):
            kept.path.parent.mkdir(parents=True, exist_ok=True)
            place = kept.path.parent if os.access(kept.path.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mnn-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _find_converter() -> str:
    """Return the file of MNN's converter, without importing it.

    Raises:
        EngineUnavailableError: There is none.
    """
    spec = importlib.machinery.PathFinder.find_spec(_TOOLS)
    if spec is None or not spec.origin:
        raise EngineUnavailableError(got="MNN's converter is not installed", fix="`pip install 'cutray[mnn]'`")
    return spec.origin
