"""Run an ONNX file with OpenVINO: the fastest engine on a CPU that computes in bfloat16."""

from __future__ import annotations

from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import as_probs, check_batch
from cutray.errors import EngineError, EngineUnavailableError

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoEngine:
    """One compiled network with a pool of requests, one for each thread that calls at the same time.

    Compiled networks are not kept on disk: a kept one saves 0.7 of the 2.2 s to the first result, but holds its
    own 176 MB copy of the weights, which would run without their hash being checked.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, path: Path, input_size_px: int, *, precision: str, threads: int) -> None:
        """Read and compile the network.

        Raises:
            EngineUnavailableError: OpenVINO is not installed or cannot be loaded.
            EngineError: OpenVINO cannot read or compile the file.
        """
        try:
            import openvino
        except ImportError as error:
            raise EngineUnavailableError(
                got=f"openvino cannot be loaded: {error}", fix="`pip install openvino`, or choose engine onnxruntime"
            ) from error
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        core = openvino.Core()
        try:
            whole = core.read_model(path)
            # The side outputs exist for training; without them their last layers are not computed.
            network = openvino.Model([whole.output(0)], whole.get_parameters(), path.stem)
            network.reshape([1, 3, input_size_px, input_size_px])
            self._compiled = core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise EngineError(
                got=f"OpenVINO cannot use {path}: {str(error).strip().splitlines()[-1]}",
                allowed=f"an ONNX network for (1, 3, {input_size_px}, {input_size_px})",
                fix="try engine onnxruntime, which may say more",
            ) from error
        in_effect = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = {hint: name for name, hint in _HINTS.items()}.get(in_effect, in_effect)
        self.threads = threads
        self._input_size_px = input_size_px
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S), one picture after the other."""
        check_batch(batch, self._input_size_px)
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            outputs = [request.infer([np.ascontiguousarray(one[None])])[0].copy() for one in batch]
        except RuntimeError as error:
            raise EngineError(got=f"OpenVINO failed: {str(error).strip().splitlines()[-1]}") from error
        finally:
            self._idle.put(request)
        return as_probs(np.concatenate(outputs), len(batch), self._input_size_px)
