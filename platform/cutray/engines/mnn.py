"""Run an ONNX file with MNN: the fastest engine on a CPU with AVX2 alone, because it convolves by Winograd there.

MNN reads a format of its own, so a file is converted once; ``mnn_conversion`` keeps the result.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import as_probs, check_batch, draw_check_picture
from cutray.engines.mnn_conversion import convert, converted_file
from cutray.errors import EngineError, EngineUnavailableError

# Largest difference between a probability of the converted network and one of the original. Rounding makes about 1e-6
# in u2net and 1e-4 in u2netp; a layer that is converted wrongly makes far more.
MAX_DIFFERENCE = 1e-3
_importing = threading.Lock()


class MnnEngine:
    """One network, which runs one picture after the other; callers take turns."""

    name = "mnn"
    device = "cpu"
    # The package for x86 computes the same bits in its low precision, so that there is no choice.
    precision = "fp32"

    def __init__(
        self, path: Path, input_size_px: int, *, threads: int, sha256: str = "", cache_dir: Path | None = None
    ) -> None:
        """Load the converted file from the cache, or convert the ONNX file, check the result and keep it.

        Args:
            path: The ONNX file.
            input_size_px: Side of the network's input, in pixels.
            threads: Processor threads.
            sha256: Hash of the file, under which the converted one is kept; without it nothing is kept.
            cache_dir: Folder for converted files; None keeps nothing. One that cannot be written costs time alone.

        Raises:
            EngineUnavailableError: MNN, or ``onnx``, which the conversion needs, is not installed or cannot be loaded.
            EngineError: MNN cannot use the file, or computes something else than the original.
        """
        mnn = _import_mnn()
        self.threads = threads
        self._input_size_px = input_size_px
        self._turn = threading.Lock()
        kept = converted_file(cache_dir, sha256, input_size_px, mnn.version()) if cache_dir and sha256 else None
        if kept and kept.is_whole():
            self._network = _Network(mnn, kept.path, input_size_px, threads)
            return
        with convert(path, input_size_px, kept) as converted:
            self._network = _Network(mnn, converted, input_size_px, threads)
            self._require_same_as(path)
            if kept:
                kept.move_here(converted)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S), one picture after the other."""
        check_batch(batch, self._input_size_px)
        with self._turn:
            outputs = [self._network.run(one[None]) for one in batch]
        return as_probs(np.concatenate(outputs), len(batch), self._input_size_px)

    def _require_same_as(self, path: Path) -> None:
        """Compare the converted network with the original in OpenVINO, on one picture.

        Raises:
            EngineError: A probability differs by more than rounding explains.
        """
        from cutray.engines.openvino import OpenVinoEngine

        picture = draw_check_picture(self._input_size_px)
        original = OpenVinoEngine(path, self._input_size_px, precision="fp32", threads=self.threads)
        difference = float(np.abs(self.infer(picture) - original.infer(picture)).max())
        if difference > MAX_DIFFERENCE:
            raise EngineError(
                got=f"MNN's conversion of {path} changes probabilities by up to {difference:.2g}",
                allowed=f"differences up to {MAX_DIFFERENCE:g}",
                fix="use engine openvino or onnxruntime",
            )


class _Network:
    """MNN's session for one picture at a time."""

    def __init__(self, mnn: Any, path: Path, input_size_px: int, threads: int) -> None:
        """Read a converted file; its bytes are not needed any more afterwards.

        Raises:
            EngineError: MNN cannot read it, or the network does not take such a picture.
        """
        self._mnn, self._shape = mnn, (1, 3, input_size_px, input_size_px)
        try:
            self._interpreter = mnn.Interpreter(os.fspath(path))
            # Its "normal" is fp32 on every processor, and says nothing on the standard output.
            self._session = self._interpreter.createSession({"numThread": threads, "precision": "normal"})
            self._input = self._interpreter.getSessionInput(self._session)
            self._interpreter.resizeTensor(self._input, self._shape)
            self._interpreter.resizeSession(self._session)
            self._output = self._interpreter.getSessionOutput(self._session)
        except Exception as error:  # the binding raises Exception itself
            raise EngineError(
                got=f"MNN cannot use {path.name}: {error}", fix="try engine openvino or onnxruntime"
            ) from error

    def run(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's first output for (1, 3, S, S), in its own shape.

        Raises:
            EngineError: MNN failed.
        """
        tensor, number, layout = self._mnn.Tensor, self._mnn.Halide_Type_Float, self._mnn.Tensor_DimensionType_Caffe
        self._input.copyFrom(tensor(self._shape, number, np.ascontiguousarray(picture), layout))
        if code := self._interpreter.runSession(self._session):
            raise EngineError(got=f"MNN failed with code {code}", fix="try another engine (--engine)")
        shape = self._output.getShape()
        # MNN keeps channels in groups; the copy brings them into the order of the axes.
        result = tensor(shape, number, np.empty(shape, np.float32), layout)
        self._output.copyToHostTensor(result)
        return np.array(result.getNumpyData(), np.float32).reshape(shape)


def _import_mnn() -> Any:
    """Import MNN, keeping what it prints about the processor away from the standard output, where a PNG may go.

    Its submodule ``MNN.tools`` is never imported: it installs and calls a reporter.

    Raises:
        EngineUnavailableError: MNN is not installed or cannot be loaded.
    """
    try:
        with _importing, contextlib.nullcontext() if "MNN" in sys.modules else _without_printing():
            import MNN
    except ImportError as error:
        raise EngineUnavailableError(got=f"MNN cannot be loaded: {error}", fix="`pip install 'cutray[mnn]'`") from error
    return MNN


@contextlib.contextmanager
def _without_printing() -> Iterator[None]:
    """Drop what code written in C prints; it takes some milliseconds, once in a process."""
    try:
        stdout = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    flush = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush
    flush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        flush(None)
        os.dup2(stdout, 1)
        os.close(nowhere)
        os.close(stdout)
