"""Run a network in PyTorch: for .pth and .safetensors files, and as the reference for the other engines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import as_probs, check_batch
from cutray.errors import EngineUnavailableError

_MAX_BATCH = 32


class PyTorchEngine:
    """One module in evaluation mode. On a CPU pictures run one by one, on a GPU as a batch."""

    name = "pytorch"

    def __init__(
        self, load_module: Callable[[], Any], input_size_px: int, *, device: str, precision: str, threads: int
    ) -> None:
        """Load the module onto its device.

        Raises:
            EngineUnavailableError: torch cannot be loaded, or does not see the GPU.
        """
        try:
            import torch
        except ImportError as error:
            raise EngineUnavailableError(
                got=f"torch cannot be loaded: {error}", fix="`pip install 'cutray[torch]'`"
            ) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineUnavailableError(
                got=f"torch {torch.__version__} sees no GPU",
                allowed="a CUDA build of torch and a driver that is new enough for it",
                fix="check `nvidia-smi`, or use device cpu",
            )
        # Torch has one setting for the whole process; other parts of it set the same value from the settings.
        torch.set_num_threads(threads)
        self.device, self.precision, self.threads = device, precision, threads
        self._torch: Any = torch
        self._batch = _MAX_BATCH if device == "cuda" else 1
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._input_size_px = input_size_px
        self._module = load_module().eval().to(device=device, memory_format=torch.channels_last)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S); the module is only read, so threads may share it."""
        check_batch(batch, self._input_size_px)
        pieces = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        return as_probs(np.concatenate([self._forward(piece) for piece in pieces]), len(batch), self._input_size_px)

    def _forward(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of one pass."""
        torch = self._torch
        cast = torch.autocast(self.device, dtype=self._dtype) if self._dtype else contextlib.nullcontext()
        images = torch.from_numpy(np.ascontiguousarray(piece)).to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode(), cast:
            logits = self._module(images)
        # The sigmoid in full precision, where its ends are not rounded to 0 and 1 too early.
        first = logits if isinstance(logits, torch.Tensor) else logits[0]
        probs: NDArray[np.float32] = torch.sigmoid(first.float()).cpu().numpy()
        return probs
