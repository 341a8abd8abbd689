"""What the kit measures of networks and of the whole chain, in the order in which it is missed most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from cutray.models.u2net import U2Net
from pipelines.bench.device_chain import chain_table, draw_jpeg, file_to_file, jpeg_decoding
from pipelines.bench.networks import GpuFigures, learning, running, serving

if TYPE_CHECKING:
    from pipelines.gpu_kit.queue import MeasureSettings

# The network that is part of the package, whatever weights were brought along.
PACKAGED = "u2netp-distilled"


def network_measurements(wanted: MeasureSettings, device: torch.device) -> Iterator[Callable[[], GpuFigures]]:
    """Yield measurements of the networks with random weights: running first, then learning, what is compiled last.

    Args:
        wanted: Which networks and sizes.
        device: Where.
    """
    torch.manual_seed(0)
    networks: dict[str, Any] = {name: U2Net(name).to(device) for name in wanted.models}
    sized = [(network.to(memory_format=torch.channels_last), name) for name, network in networks.items()]
    cases = [(network, device, name, side) for network, name in sized for side in wanted.sides_px]
    # A graph is captured on a GPU alone.
    ways = (False, True) if device.type == "cuda" else (False,)
    for case in cases:
        for batch in wanted.batches:
            yield partial(running, *case, batch, compiled=False)
            for captured in ways:
                yield partial(serving, *case, batch, captured=captured, compiled=False)
    for case in cases:
        for captured in ways:
            yield partial(learning, *case, wanted.train_batch, captured=captured, compiled=wanted.compile_loss)
    for case in cases:
        for batch in wanted.compile_batches:
            yield partial(serving, *case, batch, captured=ways[-1], compiled=True)


def measure_chain(wanted: MeasureSettings, device: torch.device) -> tuple[dict[str, Any], list[str]]:
    """Measure a photo's way from file to file: as ever, with captured graphs, and with the photo on the device.

    Returns:
        Figures for programs, and for people in Markdown.
    """
    jpeg = draw_jpeg(*wanted.photo_px)
    on_gpu = device.type == "cuda"
    rows = [
        file_to_file(PACKAGED, device, jpeg, wanted.photo_runs, captured=captured, resident=resident)
        for captured, resident in dict.fromkeys(((False, False), (on_gpu, False), (on_gpu, True)))
    ]
    decoding = jpeg_decoding(jpeg, device, wanted.photo_runs)
    return {"rows": [asdict(row) for row in rows], "decoding_ms": decoding}, chain_table(rows, decoding)
