"""The demo: cut out real photos and show them on one sheet.

python -m pipelines.demo            the photos that come with scikit-image
python -m pipelines.demo photos/    and your own
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import numpy as np

from cutray.commands.progress import download_progress
from cutray.commands.run import run
from cutray.errors import CutrayError, MissingExtraError
from cutray.imaging.contact_sheet import contact_sheet
from cutray.imaging.decode import decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.remover import BackgroundRemover

_SAMPLES = ("astronaut", "chelsea", "coffee", "camera", "rocket")


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
@click.option("-m", "--model", default="u2net", show_default=True, help="Model name or path.")
def demo(photos: Path | None, output: Path, model: str) -> None:
    """Cut out sample photos, and those in the folder PHOTOS if there is one."""
    with download_progress() as report:
        remover = BackgroundRemover(model, progress=report)
    sources: dict[str, np.ndarray | Path] = {**sample_photos()}
    if photos is not None and photos.is_dir():
        sources |= {
            path.stem: path for path in sorted(photos.iterdir()) if path.is_file() and not path.name.startswith(".")
        }
    rows = []
    for name, source in sources.items():
        started = time.perf_counter()
        try:
            removal = remover.remove_background(source, output / f"{name}.png")
        except CutrayError as error:
            click.echo(f"  {name}: {error}", err=True)
            continue
        seconds, report_ = time.perf_counter() - started, removal.report
        verdict = f"confidence {report_.confidence:.2f}" if report_.subject_found else "no subject found"
        caption = f"{name}: {report_.width_px} x {report_.height_px}, {seconds:.2f} s, {verdict}"
        click.echo(f"  {caption}  →  {output / name}.png")
        photo = source if isinstance(source, np.ndarray) else decode_image(source.read_bytes()).pixels
        rows.append((caption, photo, removal.cutout))
    sheet = output / "contact_sheet.png"
    write_atomically(sheet, encode_image(np.asarray(contact_sheet(rows)), "PNG"), overwrite=True)
    engine = remover.segmenter.choice
    click.echo(f"\nAll on one sheet: {sheet}\nEngine: {engine.engine} in {engine.precision} ({engine.reason})\n")
    click.echo("Try next, after `. .venv/bin/activate`:")
    click.echo("  cutray remove YOUR_PHOTO.jpg                     your own photo")
    click.echo("  cutray remove FOLDER/ -o cutouts/                a whole folder")
    click.echo("  cutray remove YOUR_PHOTO.jpg -b white -o a.jpg   on white")
    click.echo("  cutray doctor                                    what this machine can do")


if __name__ == "__main__":
    sys.exit(run(demo))
