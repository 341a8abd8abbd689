"""The edge sheet: rembg, rembg with alpha matting and Cutray side by side on three backgrounds, for human eyes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image

from cutray.config import EngineSettings, MattingSettings
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.run import run
from cutray.imaging.compose import compose
from cutray.imaging.contact_sheet import draw_grid
from cutray.imaging.decode import decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.preflight import check_new_file
from cutray.remover import BackgroundRemover
from pipelines.bench.pages import overwrite_option
from pipelines.bench.worker_process import start_rembg

_BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "magenta": (255, 0, 255)}
_WAYS = ("rembg", "rembg -a", "Cutray")


@click.command(cls=GroupedCommand)
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", default="edge_sheet.png", show_default=True, type=click.Path(path_type=Path))
@overwrite_option
@click.option("--rembg-python", required=True, type=click.Path(path_type=Path), help="Interpreter that has rembg.")
@click.option(
    "--cell", "cell_px", default=240, show_default=True, type=click.IntRange(64, 1024), help="Cell, in pixels."
)
@click.option("--detail", is_flag=True, help="Show the part with the most soft pixels at its own resolution.")
@settings_options(MattingSettings, EngineSettings)
def edge_sheet(
    photos: tuple[Path, ...],
    output: Path,
    overwrite: bool,
    rembg_python: Path,
    cell_px: int,
    detail: bool,
    **options: Any,
) -> int:
    """Lay the cutouts of several photos side by side.

    \b
    python -m pipelines.bench.edge_sheet photos/*.jpg --rembg-python .venv-rembg/bin/python --quality best
    """
    check_new_file(output, overwrite=overwrite)
    remover = BackgroundRemover(**given(options))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        _run_rembg(rembg_python, remover, Path(folder), photos)
        for index, path in enumerate(photos):
            photo = decode_image(path.read_bytes()).pixels
            theirs = [np.asarray(Image.open(Path(folder, f"{index}_{way}.png"))) for way in (0, 1)]
            ours = remover.remove_background(path).cutout
            window = _softest(ours[..., 3], cell_px) if detail else (slice(None), slice(None))
            rows.append(_row(photo[window], [cutout[window] for cutout in (*theirs, ours)], cell_px))
    headings = ["photo", *(f"{way}, {name}" for name in _BACKGROUNDS for way in _WAYS)]
    sheet = draw_grid(headings, rows, [path.stem for path in photos], cell_px)
    write_atomically(output, encode_image(np.asarray(sheet), "PNG"), overwrite=overwrite)
    click.echo(f"{output}")
    return 0


def _run_rembg(python: Path, remover: BackgroundRemover, folder: Path, photos: Sequence[Path]) -> None:
    """Have rembg cut out all photos with the weights that are used here; those of the first network of several."""
    weights = next(iter(remover.segmenter.weights.members), remover.segmenter.weights)
    with closing(start_rembg(python, weights.spec.name, weights.path)) as rembg:
        for index, photo in enumerate(photos):
            for way, matting in enumerate((False, True)):
                rembg.cut_out(photo, output=folder / f"{index}_{way}.png", matting=matting)


def _softest(opacity: np.ndarray, side_px: int) -> tuple[slice, slice]:
    """Find the square with the most soft pixels."""
    height, width = opacity.shape
    soft = ((opacity > 25) & (opacity < 230)).astype(np.float32)
    density = cv2.boxFilter(soft, -1, (side_px, side_px), borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(int(density.argmax()), density.shape)
    top = int(np.clip(row - side_px // 2, 0, max(0, height - side_px)))
    left = int(np.clip(column - side_px // 2, 0, max(0, width - side_px)))
    return slice(top, top + side_px), slice(left, left + side_px)


def _row(photo: np.ndarray, cutouts: Sequence[np.ndarray], cell_px: int) -> list[np.ndarray]:
    """Make one row: the photo, then each background under each cutout."""
    pictures = [photo]
    for color in _BACKGROUNDS.values():
        for cutout in cutouts:
            pictures.append(compose(cutout[..., :3], cutout[..., 3].astype(np.float32) / 255, color))
    scale = cell_px / max(photo.shape[:2])
    size = max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return [np.asarray(cv2.resize(picture, size, interpolation=way)) for picture in pictures]


if __name__ == "__main__":
    sys.exit(run(edge_sheet))
