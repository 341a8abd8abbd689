"""Convert ONNX files for MNN, and keep the results: made elsewhere, renamed into place, checked when they are read."""

from __future__ import annotations

import contextlib
import importlib.machinery
import logging
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from cutray.engines.onnx_graph import make_batch_dynamic
from cutray.errors import EngineError, EngineUnavailableError

_log = logging.getLogger(__name__)

# The converter alone. The module around it, MNN.tools, would install a package and report each conversion.
_TOOLS = "_tools"
_CONVERT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_tools", sys.argv[1])
tools = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tools)
sys.exit(not tools.mnnconvert(["", "-f", "ONNX", "--modelFile", sys.argv[2], "--MNNModel", sys.argv[3]]))
"""
_BLOCK_BYTES = 1 << 22
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """Where the converted file of one network is kept; its name says what it was made of.

    The converter never makes the same bytes twice, so the file ends in a checksum of its own.

    Attributes:
        folder: Where it lies.
        sha256: Hash of the ONNX file.
        input_size_px: Side of the network's input, in pixels.
        version: MNN's version.
    """

    folder: Path
    sha256: str
    input_size_px: int
    version: str

    @property
    def path(self) -> Path:
        """The file, whether it is there or not."""
        return self.folder / f"{self.sha256}-{self.input_size_px}-mnn{self.version}.mnn"

    def is_whole(self) -> bool:
        """Tell whether the file is there and has all its bytes."""
        try:
            with self.path.open("rb") as stream:
                size_bytes = os.fstat(stream.fileno()).st_size - _CHECKSUM.size
                checksum = _checksum(stream, size_bytes)
                whole = size_bytes > 0 and stream.read() == _CHECKSUM.pack(checksum)
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.info("the converted network cannot be read: %s", error)
            return False
        if not whole:
            _log.warning("%s is damaged; it is made anew", self.path)
        return whole

    def keep(self, converted: Path) -> None:
        """Move a converted file into the cache, and remove what other versions made of the same network."""
        try:
            with converted.open("r+b") as stream:
                # What follows the network's own bytes is not read by MNN.
                stream.write(_CHECKSUM.pack(_checksum(stream, os.fstat(stream.fileno()).st_size)))
            os.replace(converted, self.path)
            for path in self.folder.glob(f"{self.sha256}-{self.input_size_px}-mnn*.mnn"):
                if path != self.path:
                    path.unlink()
        except OSError as error:
            _log.info("the converted network is not kept: %s", error)


def _checksum(stream: BinaryIO, size_bytes: int) -> int:
    """Return the checksum of the next bytes of a stream."""
    checksum = 0
    while size_bytes > 0 and (block := stream.read(min(_BLOCK_BYTES, size_bytes))):
        checksum = isal_zlib.crc32(block, checksum)
        size_bytes -= len(block)
    return checksum


@contextlib.contextmanager
def convert(path: Path, input_size_px: int, kept: ConvertedFile | None) -> Iterator[Path]:
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
def _working_folder(kept: ConvertedFile | None) -> Iterator[Path]:
    """Provide a folder that is removed at the end: in the cache if that can be written, else a temporary one."""
    place: Path | None = None
    if kept:
        with contextlib.suppress(OSError):
            kept.folder.mkdir(parents=True, exist_ok=True)
            place = kept.folder if os.access(kept.folder, os.W_OK) else None
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
