"""Build the engine that was chosen; the others are not imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cutray.engines.base import Engine
from cutray.engines.select import EngineChoice
from cutray.errors import EngineError


def create_engine(
    choice: EngineChoice,
    path: Path,
    input_size_px: int,
    load_module: Callable[[], Any] | None = None,
    *,
    cache_dir: Path | None = None,
    stats: Path | None = None,
    sha256: str = "",
) -> Engine:
    """Build the engine that was chosen.

    Args:
        choice: From ``choose_engine``.
        path: The weights.
        input_size_px: Side of the network's input, in pixels.
        load_module: Returns the network as a torch module whose first output are logits (N, 1, S, S); needed by
            engine pytorch alone.
        cache_dir: Folder for what an engine builds slowly (TensorRT, MNN, OpenVINO); None keeps nothing.
        stats: The file of the calibration statistics of these weights; needed by int8 alone.
        sha256: Hash of the weights, under which what is built slowly is kept; without it nothing is kept.

    Raises:
        EngineUnavailableError: The engine cannot be loaded or does not get its device.
        EngineError: The engine cannot use the weights.
    """
    if choice.engine == "openvino":
        from cutray.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(
            path,
            input_size_px,
            precision=choice.precision,
            threads=choice.threads,
            streams=choice.streams,
            stats=stats,
            sha256=sha256,
            cache_dir=cache_dir / "openvino" if cache_dir else None,
        )
    if choice.engine == "mnn":
        from cutray.engines.mnn import MnnEngine

        folder = cache_dir / "mnn" if cache_dir else None
        return MnnEngine(path, input_size_px, threads=choice.threads, sha256=sha256, cache_dir=folder)
    if choice.engine == "onnxruntime":
        from cutray.engines.onnx_runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(
            path,
            input_size_px,
            device=choice.device,
            precision=choice.precision,
            threads=choice.threads,
            cache_dir=cache_dir,
        )
    if load_module is None:
        raise EngineError(
            got="engine pytorch was chosen and load_module is missing", allowed="a function that loads it"
        )
    from cutray.engines.pytorch import PyTorchEngine

    return PyTorchEngine(
        load_module,
        input_size_px,
        device=choice.device,
        precision=choice.precision,
        threads=choice.threads,
        cuda_graph=choice.cuda_graph,
        torch_compile=choice.torch_compile,
    )
