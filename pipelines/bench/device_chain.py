"""Measures the whole chain with the network in PyTorch: from the bytes of a JPEG to those of a PNG, stage by stage."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from cutray.chain import cut_out
from cutray.config import RemoverSettings, parse_settings
from cutray.data.synthetic import draw_scene
from cutray.engines.pytorch import PyTorchEngine
from cutray.engines.select import EngineChoice
from cutray.imaging.decode import decode_image
from cutray.models.u2net import load_u2net
from cutray.models.weights import Weights, resolve
from cutray.segmenter import Segmenter
from cutray.training.measure import seconds

_QUALITY, _DRAWN_PX, _GRAIN = 90, 512, 12
_WARM_UP = 1  # the same photo has the same views, whose graphs are captured then


@dataclass(frozen=True, slots=True)
class ChainFigures:
    """What one photo costs from file to file.

    Attributes:
        way: What is switched on: graph (captured CUDA graphs), resident (the photo lies on the device, see
            ``cutray.engines.device_photo``).
        model: Name of the weights.
        width_px: Width of the photo.
        height_px: Height of the photo.
        stages_ms: Median milliseconds of each stage.
    """

    way: str
    model: str
    width_px: int
    height_px: int
    stages_ms: dict[str, float]


def draw_jpeg(width: int, height: int) -> bytes:
    """Draw a product with the grain of a camera, as a JPEG file."""
    drawn = draw_scene("ordinary", np.random.default_rng(7), _DRAWN_PX, _DRAWN_PX, family="train").image
    large = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(1).normal(0, _GRAIN, (height, width, 1))
    image = np.clip(large + grain, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def file_to_file(
    model: str, device: torch.device, jpeg: bytes, runs: int, *, captured: bool, resident: bool
) -> ChainFigures:
    """Measure a photo's way through the chain with default settings, in fp16 on a GPU.

    Args:
        model: Name of the weights.
        device: Where the network runs.
        jpeg: The photo.
        runs: How often; medians are taken.
        captured: Replay captured CUDA graphs.
        resident: Keep the photo on the device.
    """
    weights = resolve(model, offline=True)
    segmenter = _segmenter(weights, device, captured=captured, resident=resident)
    settings = parse_settings(RemoverSettings, {"model": model})
    reports = [cut_out(jpeg, settings, "PNG", segmenter).report for _ in range(_WARM_UP + runs)]
    stages = {
        name: statistics.median(report.timings_ms[name] for report in reports[_WARM_UP:])
        for name in reports[-1].timings_ms
    }
    switched = {"graph": captured, "resident": resident}
    way = "+".join(name for name, on in switched.items() if on) or "plain"
    return ChainFigures(way, weights.spec.name, reports[-1].width_px, reports[-1].height_px, stages)


def _segmenter(weights: Weights, device: torch.device, *, captured: bool, resident: bool) -> Segmenter:
    """Load a network into PyTorch with everything switched as it is to be measured."""
    precision, threads = "fp16" if device.type == "cuda" else "fp32", torch.get_num_threads()
    engine = PyTorchEngine(
        lambda: load_u2net(weights.path),
        weights.spec.input_size_px,
        device=device.type,
        precision=precision,
        threads=threads,
        cuda_graph=captured,
        keep_photos=resident,
    )
    return Segmenter(weights, engine, EngineChoice("pytorch", device.type, precision, threads, "measured"))


def jpeg_decoding(jpeg: bytes, device: torch.device, runs: int) -> dict[str, float]:
    """Measure decoding: on the processor as the chain does it, and by nvJPEG with the pixels brought back down.

    Returns:
        Milliseconds by name; without ``nvjpeg`` where there is no GPU or no torchvision.
    """

    def milliseconds(once: Callable[[], Any], where: torch.device) -> float:
        return 1000 * seconds(where, once, runs)

    found = {"processor": milliseconds(lambda: decode_image(jpeg), torch.device("cpu"))}
    if device.type == "cuda":
        try:
            decode_jpeg = importlib.import_module("torchvision.io").decode_jpeg
        except ImportError:
            return found
        data = torch.from_numpy(np.frombuffer(jpeg, np.uint8).copy())
        found["nvjpeg"] = milliseconds(lambda: decode_jpeg(data, device="cuda").cpu(), device)
    return found


def chain_table(rows: Sequence[ChainFigures], decoding: dict[str, float]) -> list[str]:
    """Write tables of figures in Markdown: milliseconds, and each stage's share."""
    names = list(dict.fromkeys(name for row in rows for name in row.stages_ms))
    lines = [f"| with | model | photo | {' | '.join(names)} | ms in all |", "|---|---|---|" + "--:|" * (len(names) + 1)]
    for row in rows:
        total = sum(row.stages_ms.values())
        shares = [
            f"{row.stages_ms.get(one, 0.0):.1f} ({100 * row.stages_ms.get(one, 0.0) / total:.0f} %)" for one in names
        ]
        lines.append(
            f"| {row.way} | {row.model} | {row.width_px} × {row.height_px} | {' | '.join(shares)} | {total:.1f} |"
        )
    return [*lines, "", "Decoding: " + ", ".join(f"{name} {value:.1f} ms" for name, value in decoding.items()) + "."]
