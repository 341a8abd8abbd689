"""The demo: cut out real photos by the batch job and show them on one sheet.

python -m pipelines.demo            the photos that come with scikit-image
python -m pipelines.demo photos/    and your own
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from cutray.config import BatchSettings, RemoverSettings, parse_settings
from cutray.console.options import given
from cutray.console.run import run
from cutray.errors import MissingExtraError
from cutray.imaging.contact_sheet import draw_contact_sheet
from cutray.imaging.decode import decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.imaging.photo_files import PHOTO_SUFFIXES

_SAMPLES = ("astronaut", "chelsea", "coffee", "camera", "rocket")
_NEXT = (
    ("remove", "cutray remove YOUR_PHOTO.jpg -b white -o a.jpg", "your own photo, on white"),
    ("batch", "cutray batch YOUR_FOLDER/ cutouts/", "a whole folder or bucket, by the job that has just run"),
    ("serve", "cutray serve", "the HTTP endpoint and a page to try it"),
    ("train", "cutray train --help", "train a network of your own"),
    ("tune", "cutray tune --help", "look for better settings of the training"),
    ("doctor", "cutray doctor", "what this machine can do"),
)


def sample_photos() -> dict[str, np.ndarray]:
    """Load the free photos that come with scikit-image.

    Returns:
        Name and (H, W, 3) uint8 sRGB picture of each.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError(got="scikit-image is not installed", fix="run `pip install 'cutray[demo]'`") from error
    return {name: getattr(data, name)() for name in _SAMPLES}


@click.command()
@click.argument("photos", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("-m", "--model", help="Model name or path.  [default: that of quality balanced]")
def demo(photos: Path | None, output: Path, model: str | None) -> None:
    """Cut out sample photos, and those in the folder PHOTOS if there is one."""
    try:
        from pipelines.batch.job import BatchJob
        from pipelines.batch.manifest import Manifest
        from pipelines.batch.run import run_batch
        from pipelines.batch.storage import LocalStorage
    except ModuleNotFoundError as error:
        raise MissingExtraError(got=f"{error.name} is not installed", fix="run `pip install 'cutray[demo]'`") from error
    sources, cutouts = output / "photos", output / "cutouts"
    _gather(photos, sources)
    # The same photos and settings again are found done and skipped; another model does them again.
    settings = parse_settings(RemoverSettings, given({"model": model}))
    run_batch(BatchJob(str(sources), str(cutouts), settings, BatchSettings(), reprocess=True, retry_failed=True))
    here = [
        row
        for row in Manifest(LocalStorage(str(cutouts))).table().to_pylist()
        if LocalStorage(str(sources)).find(row["source"])
    ]
    here.sort(key=lambda row: -(row["confidence"] or 0.0))  # the best first: a sheet is looked at from its top
    sheet = output / "contact_sheet.png"
    picture = draw_contact_sheet(list(_rows(here, sources, cutouts)))
    write_atomically(sheet, encode_image(np.asarray(picture), "PNG"), overwrite=True)
    click.echo(f"\nAll on one sheet: {sheet}\nCutouts: {cutouts}\n\nTry next, after `. .venv/bin/activate`:")
    shown = subprocess.run([sys.executable, "-m", "cutray.cli", "--help"], check=True, capture_output=True, text=True)
    verbs = {line.split()[0] for line in shown.stdout.splitlines() if line.strip()}
    for verb, command, what in _NEXT:
        if verb in verbs:
            click.echo(f"  {command:<48} {what}")


def _gather(photos: Path | None, folder: Path) -> None:
    """Lay the samples, and copies of the caller's photos, into one folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, picture in sample_photos().items():
        Image.fromarray(picture).save(folder / f"{name}.png")  # not by our writer, which marks results
    if photos is not None and photos.is_dir():
        for path in sorted(photos.iterdir()):
            if path.is_file() and path.suffix.lower() in PHOTO_SUFFIXES:
                write_atomically(folder / "yours" / path.name, path.read_bytes(), overwrite=True)


def _rows(manifest: list[Mapping[str, Any]], sources: Path, cutouts: Path) -> Iterator[tuple[str, np.ndarray, Any]]:
    """Yield caption, photo and cutout of each result, and tell what became of each photo."""
    from pipelines.batch.manifest import PhotoStatus
    from pipelines.batch.names import decode_name

    for row in manifest:
        name, found = Path(row["source"]).stem, row["status"] == PhotoStatus.OK
        if row["status"] in (PhotoStatus.FAILED, PhotoStatus.SKIPPED):
            click.echo(f"  {name}: {row['reason']}", err=True)
            continue
        verdict = f"confidence {row['confidence']:.2f}" if found else "no subject found"
        caption = f"{name}: {row['width_px']} x {row['height_px']}, {row['seconds']:.2f} s, {verdict}"
        click.echo(f"  {caption}" + (f"  →  {cutouts / row['output']}" if found else ""))
        photo = decode_image((sources / decode_name(row["source"])).read_bytes()).pixels
        if not found:
            yield caption, photo, np.zeros((*photo.shape[:2], 4), np.uint8)
            continue
        cutout = decode_image((cutouts / decode_name(row["output"])).read_bytes())
        opacity = np.full(cutout.pixels.shape[:2], 255, np.uint8) if cutout.alpha is None else cutout.alpha
        yield caption, photo, np.dstack([cutout.pixels, opacity])


if __name__ == "__main__":
    sys.exit(run(demo))
