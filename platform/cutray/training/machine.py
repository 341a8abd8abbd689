"""How a training process uses the machine that it is on: threads, and the precision that it computes in."""

from __future__ import annotations

import torch

from cutray.config import TrainSettings


def set_threads(settings: TrainSettings, world_size: int) -> None:
    """Share the processor's cores among the workers of this machine."""
    from cutray.engines.hardware import usable_cores

    torch.set_num_threads(settings.threads_per_worker or max(1, usable_cores() // world_size))


def computes_in_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Settle the precision."""
    from cutray.engines.hardware import inspect_hardware

    if settings.precision == "auto":
        return device.type == "cuda" or inspect_hardware().computes_in_bf16
    return settings.precision == "bf16"
