"""Run an ONNX file with ONNX Runtime: on any CPU, and on NVIDIA GPUs through CUDA or TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import as_probs, check_batch
from cutray.engines.onnx_graph import make_batch_dynamic
from cutray.errors import EngineError, EngineUnavailableError
from cutray.privacy import import_onnxruntime

# The most pictures in one pass on a GPU; TensorRT builds its network for a range of batch sizes.
_MAX_BATCH = 32
_USUAL_BATCH = 8


class OnnxRuntimeEngine:
    """One session. On a CPU pictures run one by one, on a GPU as a batch."""

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        input_size_px: int,
        *,
        device: str,
        precision: str,
        threads: int,
        cache_dir: Path | None = None,
    ) -> None:
        """Open the file and make sure that the device asked for is the one in use.

        Args:
            path: The ONNX file.
            input_size_px: Side of the network's input, in pixels.
            device: cpu or cuda.
            precision: fp32, or fp16 on cuda, which means TensorRT.
            threads: Processor threads.
            cache_dir: Where TensorRT keeps what it builds; None builds it at every start.

        Raises:
            EngineUnavailableError: ONNX Runtime cannot be loaded or does not use the device.
            EngineError: ONNX Runtime cannot read or run the file.
        """
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            raise EngineUnavailableError(
                got=f"onnxruntime cannot be loaded: {error}",
                fix=f"`pip install 'cutray[{'gpu' if device == 'cuda' else 'onnx'}]'`",
            ) from error
        self.device, self.precision, self.threads = device, precision, threads
        self._input_size_px = input_size_px
        self._batch = _MAX_BATCH if device == "cuda" else 1
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Without this, weights that are stored in eight bits would be multiplied out in each pass.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()

        def session(source: str | bytes, providers: list[Any]) -> Any:
            try:
                # Its own fallback would go on with another provider, in the middle of a run and without a word to us.
                return onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
            except Exception as error:  # The runtime's errors share no public base class.
                raise EngineError(
                    got=f"ONNX Runtime cannot use {path}: {error}", fix="try another engine, or export the model anew"
                ) from error

        if device == "cuda":
            _require_provider(onnxruntime.get_available_providers(), precision)
            graph, name = make_batch_dynamic(path, input_size_px)
            self._session = session(graph, _gpu_providers(name, input_size_px, precision, cache_dir))
            _require_provider(self._session.get_providers()[:1], precision)
        else:
            self._session = session(str(path), ["CPUExecutionProvider"])
            if not _accepts_single(self._session.get_inputs()[0].shape, input_size_px):
                self._session = session(make_batch_dynamic(path, input_size_px)[0], ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S); a session may be used by several threads."""
        check_batch(batch, self._input_size_px)
        pieces = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        try:
            outputs = [self._session.run([self._output], {self._input: piece})[0] for piece in pieces]
        except Exception as error:  # As above.
            raise EngineError(got=f"ONNX Runtime failed: {error}", fix="try another engine (--engine)") from error
        return as_probs(np.concatenate(outputs), len(batch), self._input_size_px)


def _accepts_single(shape: list[int | str | None], input_size_px: int) -> bool:
    """Tell whether a graph's input, whose free dimensions are no numbers, takes one picture of the given side."""
    wanted = (1, 3, input_size_px, input_size_px)
    return len(shape) == 4 and all(not isinstance(d, int) or d == w for d, w in zip(shape, wanted, strict=True))


def _provider(precision: str) -> str:
    """Name what runs the network on a GPU."""
    return "TensorrtExecutionProvider" if precision == "fp16" else "CUDAExecutionProvider"


def _require_provider(present: list[str], precision: str) -> None:
    """Turn ONNX Runtime's silent fall back to the CPU into an error.

    Raises:
        EngineUnavailableError: The provider is not among those present.
    """
    if _provider(precision) in present:
        return
    library = "TensorRT" if precision == "fp16" else "CUDA and cuDNN"
    raise EngineUnavailableError(
        got=f"a GPU in {precision} was asked for, but ONNX Runtime only offers {', '.join(present) or 'nothing'}",
        allowed=f"{_provider(precision)}, which needs onnxruntime-gpu and the libraries of {library}",
        fix="`pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'cutray[gpu]'`, or use device cpu",
    )


def _gpu_providers(input_name: str, input_size_px: int, precision: str, cache_dir: Path | None) -> list[Any]:
    """Return ONNX Runtime's providers in order of preference, each with its options."""
    # Searching for the best algorithm anew for each batch size would take seconds each.
    cuda = ("CUDAExecutionProvider", {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"})
    if precision != "fp16":
        return [cuda, "CPUExecutionProvider"]

    def shape(count: int) -> str:
        return f"{input_name}:{count}x3x{input_size_px}x{input_size_px}"

    tensorrt = {
        "device_id": "0",
        "trt_fp16_enable": "True",
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(_USUAL_BATCH),
        "trt_profile_max_shapes": shape(_MAX_BATCH),
    }
    if cache_dir is not None:
        folder = cache_dir / "tensorrt"
        folder.mkdir(parents=True, exist_ok=True)  # TensorRT makes no folders above it
        tensorrt |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
        tensorrt |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(folder)}
    return [("TensorrtExecutionProvider", tensorrt), cuda, "CPUExecutionProvider"]
