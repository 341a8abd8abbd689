"""The rows of the quality benchmark: each a process that cuts out, and a memory of what it has cut out before."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from cutray.config import RemoverSettings, parse_settings
from cutray.console.progress import download_progress
from cutray.errors import EngineError
from cutray.evaluation.datasets import Sample
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.models.preset_networks import name_networks
from cutray.models.weights import resolve
from pipelines.bench.row_text import read_row
from pipelines.bench.worker_process import Answer, WorkerProcess, start_rembg

_WORKER = Path(__file__).with_name("cutray_worker.py")
_MATTING = " -a"


@dataclass(slots=True)
class QualityRow:
    """One line of the tables.

    Attributes:
        name: As it is printed.
        model: What `cutray evaluate` would be told.
        identity: Program, weights and settings; equal ones give equal results.
        start: Starts its process, when the first photo needs it.
        seconds: Of each photo so far.
        peak_bytes: Most memory that its process has held.
    """

    name: str
    model: str
    identity: str
    start: Callable[[], WorkerProcess]
    matting: bool = False
    worker: WorkerProcess | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def cut_out(self, sample: Sample, path: Path) -> np.ndarray:
        """Cut a photo out, unless it was done before.

        Args:
            sample: The photo.
            path: Where its alpha is kept as a grey PNG file, and what it took beside it.

        Returns:
            Its alpha, (H, W) float32 in [0, 1].
        """
        record = path.with_suffix(".json")
        if not record.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.worker = self.worker or self.start()
            answer = self.worker.cut_out(sample.image, output=path, matting=self.matting)
            write_atomically(path, encode_image(_read_opacity(path), "PNG"), overwrite=True)
            told = json.dumps({"seconds": answer.seconds, "peak_bytes": answer.peak_bytes})
            write_atomically(record, told.encode(), overwrite=True)  # last: what is half done is done again
        answer = Answer(**json.loads(record.read_bytes()))
        self.seconds.append(answer.seconds)
        self.peak_bytes = max(self.peak_bytes, answer.peak_bytes)
        return _read_mask(path).astype(np.float32) / np.float32(255)


def our_row(text: str, stack: ExitStack) -> QualityRow:
    """Prepare a row of ours.

    Args:
        text: ``NAME: setting=value …``.
        stack: Ends the process.
    """
    name, given = read_row(text)
    settings = name_networks(parse_settings(RemoverSettings, {**given, "format": "png"}))
    with download_progress() as progress:
        weights = resolve(settings.model, progress=progress)
    told = json.dumps(settings.model_dump(mode="json", exclude_unset=True), sort_keys=True)

    def start() -> WorkerProcess:
        return stack.enter_context(closing(WorkerProcess([sys.executable, str(_WORKER), told])))

    return QualityRow(name, settings.model, _digest(f"cutray {version('cutray')}", weights.identity, told), start)


def their_row(python: Path, peer: str, stack: ExitStack) -> QualityRow:
    """Prepare a row of rembg, with the weights that are used here if they are of the same name.

    Args:
        python: Interpreter that has rembg.
        peer: Its name of the model, and ``-a`` behind it for its alpha matting.
        stack: Ends the process.
    """
    model = peer.removesuffix(_MATTING).strip()
    with download_progress() as progress:
        weights = resolve("isnet" if model == "isnet-general-use" else model, progress=progress)

    def start() -> WorkerProcess:
        return stack.enter_context(closing(start_rembg(python, model, weights.path)))

    identity = _digest("rembg", peer, weights.sha256)
    matting = peer.endswith(_MATTING)
    return QualityRow(f"rembg {peer}", weights.spec.name, identity, start, matting=matting)


def _digest(*parts: str) -> str:
    """Return a short name for a combination."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _read_opacity(path: Path) -> np.ndarray:
    """Read the alpha channel of a cutout, (H, W) uint8."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        raise EngineError(got=f"a result of shape {pixels.shape}", allowed="RGBA pictures")
    return np.ascontiguousarray(pixels[..., 3])


def _read_mask(path: Path) -> np.ndarray:
    """Read a mask, (H, W) uint8."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    if pixels.ndim != 2:
        raise EngineError(got=f"a mask of shape {pixels.shape}", allowed="grey pictures")
    return pixels
