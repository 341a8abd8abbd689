"""Pictures of a training run: what the network sees, how it learned, and what it makes of photos it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cutray.config import TrainSettings
from cutray.data.loading import SampleSpec
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically

_BATCH, _RESULTS = 16, 12


def draw_batch(settings: TrainSettings, samples: Sequence[SampleSpec]) -> bytes:
    """Draw sixteen varied samples, each beside its truth.

    Args:
        settings: Those of the run.
        samples: The samples to learn from.

    Returns:
        A PNG file.
    """
    from cutray.data.loading import load_sample, shuffle_samples

    chosen = shuffle_samples(samples, settings.seed, 0)[:_BATCH]
    loaded = [load_sample(sample, settings.data.side_px, settings.seed, 0, settings.augment) for sample in chosen]
    return _in_columns([np.concatenate([image, _grey(alpha)], 1) for image, alpha in loaded], 4)


def draw_results(run_dir: Path, settings: TrainSettings, weights: Path, samples: Sequence[SampleSpec]) -> Path:
    """Draw up to twelve validation samples, each with its truth and the mask that the trained network makes.

    Args:
        run_dir: Folder of the run.
        settings: Those of the run.
        weights: Its best weights.
        samples: The samples to validate on, of which some are taken evenly.

    Returns:
        The picture, ``results.png`` in the run's folder.
    """
    from cutray.data.loading import load_sample
    from cutray.remover import BackgroundRemover

    remover = BackgroundRemover(str(weights), quality="fast")
    tiles = []
    for sample in samples[:: -(-len(samples) // _RESULTS)]:
        image, alpha = load_sample(sample, settings.data.side_px, settings.seed)
        mask = remover.remove_background(image).mask
        tiles.append(np.concatenate([image, _grey(alpha), _grey(mask / np.float32(255))], 1))
    path = run_dir / "results.png"
    write_atomically(path, _in_columns(tiles, 3), overwrite=True)
    return path


def draw_curves(run_dir: Path, history: Sequence[dict[str, float]]) -> Path:
    """Draw loss and scores over the epochs.

    Args:
        run_dir: Folder of the run.
        history: Figures of each epoch.

    Returns:
        The picture, ``curves.png`` in the run's folder.
    """
    from matplotlib.figure import Figure

    epochs = [entry["epoch"] + 1 for entry in history]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, names in zip(figure.subplots(1, 3), (("loss",), ("iou", "f_score"), ("mae",)), strict=True):
        for name in names:
            axes.plot(epochs, [entry[name] for entry in history], marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.legend()
        axes.grid(visible=True, alpha=0.3)
    path = run_dir / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def _grey(alpha: np.ndarray) -> np.ndarray:
    """Make (H, W, 3) uint8 of (H, W) in [0, 1]."""
    return np.repeat(np.rint(alpha * 255).astype(np.uint8)[..., None], 3, 2)


def _in_columns(tiles: list[np.ndarray], columns: int) -> bytes:
    """Lay pictures of one size out in samples; returns a PNG file."""
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return encode_image(np.concatenate(lines), "PNG")
