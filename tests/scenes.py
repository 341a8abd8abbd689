"""Folders of drawn photos with masks, for tests that train and score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cutray.data.synthetic import draw_scene


def write_pairs(folder: Path, amount: int, *, seed: int = 0, side_px: int = 96, family: str = "train") -> Path:
    """Write images/ and masks/ with that many drawn products; return the folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(amount):
        scene = draw_scene("ordinary", np.random.default_rng([seed, number]), side_px, side_px, family=family)
        Image.fromarray(scene.image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(np.rint(scene.alpha * 255).astype(np.uint8)).save(folder / "masks" / f"{number:03}.png")
    return folder
