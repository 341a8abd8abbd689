"""Run a network in PyTorch: for .pth and .safetensors files, and as the reference for the other engines."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import ResidentPhoto, as_probs, check_batch
from cutray.errors import EngineUnavailableError

_MAX_BATCH = 32
_WARM_UP = 3
_MOST_BLOCKS = 64
# What a photo on the device takes: its bytes, its planes in float32 while they are made smaller, and its alpha twice.
_BYTES_PER_PIXEL = 3 + 2 * 12 + 2 * 4


class PyTorchEngine:
    """One module in evaluation mode. On a CPU pictures run one by one, on a GPU as a batch."""

    name = "pytorch"

    def __init__(
        self,
        load_module: Callable[[], Any],
        input_size_px: int,
        *,
        device: str,
        precision: str,
        threads: int,
        cuda_graph: bool = False,
        torch_compile: bool = False,
        keep_photos: bool | None = None,
    ) -> None:
        """Load the module onto its device.

        Batch normalisations are folded into the convolutions before them, and weights are kept in the precision that
        is computed in: less to start and less to read for each picture.

        Args:
            load_module: Returns the network, whose first output are logits (N, 1, S, S).
            input_size_px: Side of the input.
            device: cpu or cuda.
            precision: fp32, bf16 or fp16.
            threads: Processor threads.
            cuda_graph: Replay each batch size as a captured CUDA graph. Without a GPU nothing is captured.
            torch_compile: Compile the network block by block at the first picture; takes seconds to minutes.
            keep_photos: Prepare photos, and bring their alpha to full size, on the device; None: on a GPU alone.

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
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._input_size_px = input_size_px
        module = fold_norms(load_module().eval())
        self._module = module.to(device=device, dtype=self._dtype, memory_format=torch.channels_last)
        if torch_compile:
            _compile_blocks(self._module)
        self._graphs: dict[int, tuple[Any, Any, Any]] | None = {} if cuda_graph and device == "cuda" else None
        # A captured graph has one place for its input: callers take turns.
        self._turn = threading.Lock()
        self._keep_photos = device == "cuda" if keep_photos is None else keep_photos

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S); the module is only read, so threads may share it."""
        check_batch(batch, self._input_size_px)
        pieces = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        return as_probs(np.concatenate([self._forward(piece) for piece in pieces]), len(batch), self._input_size_px)

    def upload(self, image: NDArray[np.uint8]) -> ResidentPhoto | None:
        """Bring a photo, (H, W, 3) uint8 sRGB, to a GPU; None on a processor, or where its memory is too small."""
        if not self._keep_photos or not self._has_room(image.shape[0] * image.shape[1]):
            return None
        from cutray.engines.device_photo import DevicePhoto

        return DevicePhoto(image, self._torch.device(self.device), self._taking_turns)

    def _has_room(self, pixels: int) -> bool:
        """Whether a photo of so many pixels can be worked on."""
        if self.device != "cuda":
            return True
        cuda = self._torch.cuda
        free = cuda.mem_get_info()[0] + cuda.memory_reserved() - cuda.memory_allocated()
        return bool(pixels * _BYTES_PER_PIXEL < free)

    def infer_resident(self, batches: Sequence[Any], most: int) -> NDArray[np.float32]:
        """Run the network on views of photos that lie on the device; only the maps come down, at once."""
        torch, size = self._torch, min(most, self._batch)
        with torch.inference_mode(), self._taking_turns():
            views = torch.cat(list(batches))
            maps = [self._compute(views[start : start + size]) for start in range(0, len(views), size)]
            probs = torch.cat(maps).cpu().numpy()
        return as_probs(probs, len(views), self._input_size_px)

    def _taking_turns(self) -> contextlib.AbstractContextManager[Any]:
        """Wait for a turn: while a graph is captured, no other thread may allocate on the device."""
        return self._turn if self._graphs is not None else contextlib.nullcontext()

    def _forward(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of one pass."""
        torch = self._torch
        with torch.inference_mode(), self._taking_turns():
            images = torch.from_numpy(np.ascontiguousarray(piece))
            if self.device == "cuda":
                images = images.pin_memory()
            probs: NDArray[np.float32] = self._compute(images.to(self.device, non_blocking=True)).cpu().numpy()
            return probs

    def _compute(self, images: Any) -> Any:
        """Return the probabilities of one pass, on the device, as a tensor of its own."""
        images = images.to(self._dtype, memory_format=self._torch.channels_last)
        return self._probs(images) if self._graphs is None else self._replay(images)

    def _probs(self, images: Any) -> Any:
        """Return the probabilities of one pass, on the device."""
        logits = self._module(images)
        first = logits if isinstance(logits, self._torch.Tensor) else logits[0]
        # The sigmoid in full precision, where its ends are not rounded to 0 and 1 too early.
        return self._torch.sigmoid(first.float())

    def _replay(self, images: Any) -> Any:
        """Replay the graph of this batch size, which is captured when the size is first seen."""
        torch, graphs = self._torch, self._graphs or {}
        if len(images) not in graphs:
            still = images.clone(memory_format=torch.preserve_format)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # libraries choose their kernels in the first passes
                for _ in range(_WARM_UP):
                    self._probs(still)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                probs = self._probs(still)
            graphs[len(images)] = (graph, still, probs)
            self._graphs = graphs
        graph, still, probs = graphs[len(images)]
        still.copy_(images)
        graph.replay()
        return probs.clone()  # the next replay writes to the same place


def fold_norms(module: Any) -> Any:
    """Fold each batch normalisation into the convolution before it, where a block holds just these two.

    Args:
        module: A network in evaluation mode; it is changed.
    """
    from torch import nn
    from torch.nn.utils import fuse_conv_bn_eval

    for block in module.modules():
        parts = list(block.named_children())
        if [type(part) for _, part in parts] == [nn.Conv2d, nn.BatchNorm2d]:
            (first, convolution), (second, norm) = parts
            setattr(block, first, fuse_conv_bn_eval(convolution, norm))
            setattr(block, second, nn.Identity())
    return module


def _compile_blocks(module: Any, backend: Any = "inductor") -> None:
    """Compile each direct child that has parts of its own: blocks alike compile once, and fast."""
    import torch

    # Blocks share their code and differ in their sizes; by default only eight sizes would be compiled.
    torch._dynamo.config.recompile_limit = max(_MOST_BLOCKS, torch._dynamo.config.recompile_limit)
    for child in module.children():
        if any(True for _ in child.children()):
            child.compile(dynamic=False, backend=backend)
