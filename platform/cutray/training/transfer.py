"""Brings batches to the device while it computes: one is under way while another one is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


def to_device(batches: Iterable[dict[str, Any]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Copy batches to a device, one ahead of the one in use.

    On a GPU the copy starts from pinned memory and runs on a stream of its own, beside the computation.

    Args:
        batches: Arrays by name.
        device: Where they are needed.

    Yields:
        Tensors by name.
    """
    side: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    ahead: tuple[dict[str, Tensor], Any] | None = None
    for batch in batches:
        following = _begin({name: torch.as_tensor(values) for name, values in batch.items()}, device, side)
        if ahead is not None:
            yield _ready(*ahead, device)
        ahead = following
    if ahead is not None:
        yield _ready(*ahead, device)


def _begin(batch: dict[str, Tensor], device: torch.device, side: Any) -> tuple[dict[str, Tensor], Any]:
    """Begin to copy a batch; the second value tells when that is done."""
    if side is None:
        return {name: values.to(device) for name, values in batch.items()}, None
    with torch.cuda.stream(side):
        # What a cache gathers is there already.
        copies = {
            name: values.pin_memory().to(device, non_blocking=True) if values.device.type == "cpu" else values
            for name, values in batch.items()
        }
        return copies, side.record_event()


def _ready(batch: dict[str, Tensor], copied: Any, device: torch.device) -> dict[str, Tensor]:
    """Make the computation wait for the copy, and its memory stay until the computation has used it."""
    if copied is not None:
        stream = torch.cuda.current_stream(device)
        stream.wait_event(copied)
        for values in batch.values():
            values.record_stream(stream)
    return batch
