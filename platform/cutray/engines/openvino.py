"""Run an ONNX file with OpenVINO: the fastest engine on a CPU that computes in bfloat16."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import as_probs, check_batch
from cutray.engines.hardware import read_cpu
from cutray.engines.int8 import quantise, read_stats
from cutray.engines.kept_file import KeptFile
from cutray.engines.single_maps import speed_up_single_maps
from cutray.errors import EngineError, EngineUnavailableError
from cutray.privacy import import_openvino

# OpenVINO's binding prepares itself when it is first used. If two threads come at that moment, one waits for the
# other's preparation while it holds Python's own lock, which the other needs: both wait for ever. So the first pass of
# each engine is made by one thread at a time.
_FIRST_PASS = threading.Lock()
if hasattr(os, "register_at_fork"):  # a forked process must not wait for a pass that its parent was making
    os.register_at_fork(after_in_child=lambda: globals().update(_FIRST_PASS=threading.Lock()))
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# To be raised when something else is done to a network before it is compiled: compiled ones are made anew.
_PREPARATION_VERSION = 3


def read_network(core: Any, path: Path, input_size_px: int) -> Any:
    """Read an ONNX file as an OpenVINO network for one picture that gives the file's first output alone.

    Raises:
        RuntimeError: OpenVINO cannot read the file, or its input is not pictures.
        IndexError: The network has no output.
    """
    whole = core.read_model(path)
    # The side outputs exist for training; without them their last layers are not computed.
    openvino = import_openvino()
    network = openvino.Model([whole.output(0)], whole.get_parameters(), path.stem)
    network.reshape([1, 3, input_size_px, input_size_px])
    # Weights that are stored in eight bits become plain ones.
    folding = openvino.passes.Manager()
    folding.register_pass(openvino.passes.ConstantFolding())
    folding.run_passes(network)
    return network


class OpenVinoEngine:
    """One compiled network. Each of its streams runs one picture at a time on its share of the threads.

    Callers take turns, as many at a time as there are streams: one more would only wait inside OpenVINO.

    The compiled network is kept in the cache, and mapped into memory from there: making it costs three (fp32) to five
    (int8) times as much.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        path: Path,
        input_size_px: int,
        *,
        precision: str,
        threads: int,
        streams: int = 1,
        stats: Path | None = None,
        sha256: str = "",
        cache_dir: Path | None = None,
    ) -> None:
        """Read and compile the network.

        Args:
            path: The ONNX file.
            input_size_px: Side of the network's input, in pixels.
            precision: fp32, bf16 or int8.
            threads: Processor threads, of all streams together.
            streams: Pictures at a time.
            stats: The file of the calibration statistics of these weights; int8 needs it.
            sha256: Hash of the weights, under which the compiled network is kept; without it none is kept.
            cache_dir: Folder for that; None keeps nothing.

        Raises:
            EngineUnavailableError: OpenVINO is not installed or cannot be loaded, or the statistics cannot be used.
            EngineError: OpenVINO cannot read or compile the file.
        """
        try:
            openvino = import_openvino()
        except ImportError as error:
            raise EngineUnavailableError(
                got=f"openvino cannot be loaded: {error}", fix="`pip install openvino`, or choose engine onnxruntime"
            ) from error
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
        options |= {"NUM_STREAMS": str(streams)} if streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
        # What int8 leaves over is computed in the format that OpenVINO finds fastest here. It looks at the processor,
        # not at oneDNN's cap, under which it would find nothing.
        if precision != "int8" or os.environ.get("ONEDNN_MAX_CPU_ISA"):
            options["INFERENCE_PRECISION_HINT"] = _HINTS.get(precision, "f32")
        core = openvino.Core()
        try:
            found = _require(stats) if precision == "int8" else None
            kept = _kept_file(cache_dir, sha256, input_size_px, precision, found) if cache_dir and sha256 else None
            self._compiled, content = _compile(core, path, input_size_px, options, found, kept)
        except (RuntimeError, IndexError) as error:
            raise EngineError(
                got=f"OpenVINO cannot use {path}: {str(error).strip().splitlines()[-1]}",
                allowed=f"an ONNX network for (1, 3, {input_size_px}, {input_size_px})",
                fix="try engine onnxruntime, which may say more",
            ) from error
        in_effect = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        rest = {hint: name for name, hint in _HINTS.items()}.get(in_effect, in_effect)
        self.precision = "int8" if precision == "int8" else rest
        self.threads = threads
        self._input_size_px = input_size_px
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._requests.put(self._compiled.create_infer_request())
        self._used = False
        # OpenVINO reads its weights from here without owning them. Last, so that it goes after what reads it.
        self._content = content

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S), one picture after the other."""
        check_batch(batch, self._input_size_px)
        request = self._requests.get()
        try:
            with contextlib.nullcontext() if self._used else _FIRST_PASS:
                outputs = [request.infer([np.ascontiguousarray(one[None])])[0].copy() for one in batch]
                self._used = True
        except RuntimeError as error:
            raise EngineError(
                got=f"OpenVINO failed: {str(error).strip().splitlines()[-1]}", fix="try another engine (--engine)"
            ) from error
        finally:
            self._requests.put(request)
        return as_probs(np.concatenate(outputs), len(batch), self._input_size_px)


def _compile(
    core: Any, path: Path, input_size_px: int, options: dict[str, Any], stats: Path | None, kept: KeptFile | None
) -> tuple[Any, NDArray[np.uint8] | None]:
    """Compile the network, for int8 with quantised weights, and keep the result; or read one that was kept.

    Returns:
        The compiled network, and the bytes that have to stay as long as it does.
    """
    content = kept.read() if kept else None
    if content is not None:
        # Whole, but not to OpenVINO's liking, or an OpenVINO that takes no memory: made anew.
        with contextlib.suppress(RuntimeError, TypeError):
            return core.import_model(import_openvino().Tensor(content, shared_memory=True), "CPU", options), content
    network = read_network(core, path, input_size_px)
    if stats is not None:
        quantise(network, read_stats(stats))
    speed_up_single_maps(network)
    compiled = core.compile_model(network, "CPU", options)
    # Of several processes that start at once, those that come last find it made.
    if kept and (content is not None or not kept.is_whole()):
        stream = io.BytesIO()
        compiled.export_model(stream)
        kept.write(stream.getbuffer())
    return compiled, None


def _kept_file(folder: Path, sha256: str, input_size_px: int, precision: str, stats: Path | None) -> KeptFile:
    """Return where the compiled network is kept: one file for each number format, which a new version replaces.

    Threads and streams are no part of it: OpenVINO distributes the work when it reads the file.
    """
    name, flags = read_cpu()
    caps = [os.environ.get(variable) for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")]
    digest = hashlib.sha256(stats.read_bytes() if stats is not None and stats.is_file() else b"")
    digest.update(repr([import_openvino().__version__, _PREPARATION_VERSION, name, sorted(flags), caps]).encode())
    stem = f"{sha256}-{precision}-{input_size_px}"
    return KeptFile(folder / f"{stem}-{digest.hexdigest()[:32]}.blob", f"{stem}-*.blob")


def _require(stats: Path | None) -> Path:
    """Refuse int8 without calibration statistics."""
    if stats is None:
        raise EngineUnavailableError(
            got="precision int8 was asked for without calibration statistics for these weights",
            fix="make them with `python -m pipelines.calibrate`, or leave the precision to auto",
        )
    return stats
