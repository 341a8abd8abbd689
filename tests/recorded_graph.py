"""Captured CUDA graphs without a GPU: operations are recorded as they run, and replayed into the same memory.

As with a real graph, what is replayed reads and writes the tensors of the capture, and sees nothing of what the program
does beside it: Python's numbers are those of the capture, and an operation that waits for the device is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations whose result the processor has to know: they would wait for the device, which a capture refuses.
WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.masked_select", "aten.equal")


class RecordedGraph(TorchDispatchMode):
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        """Begin without operations."""
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._ran = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and remember it."""
        assert not str(func).startswith(WAITING), f"{func} waits for the device"
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        self._ran = True
        return result

    def replay(self) -> None:
        """Do it again, in the same memory. A real capture runs nothing, this one has: so the first replay is done."""
        if self._ran:
            self._ran = False
            return
        # Where operations were recorded: below what keeps account of gradients and views.
        accounts = torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
        with torch._C._AutoDispatchBelowAutograd(), torch._C._ExcludeDispatchKeyGuard(accounts):
            for func, args, kwargs, result in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Stream:
    """Stands for a stream: on a processor everything runs in order."""

    def wait_stream(self, other: object) -> None:
        """Do nothing."""


@contextlib.contextmanager
def _capture(graph: RecordedGraph) -> Iterator[None]:
    """Stands for ``torch.cuda.graph``."""
    with graph:
        yield


def record_graphs(monkeypatch: pytest.MonkeyPatch) -> list[RecordedGraph]:
    """Have torch record on the processor; return the graphs that will be made."""
    made: list[RecordedGraph] = []

    def new_graph() -> RecordedGraph:
        made.append(RecordedGraph())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", new_graph)
    monkeypatch.setattr(torch.cuda, "graph", _capture)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    return made
