"""Measures the photos of a folder, and what a network says of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cutray.chain import report_of
from cutray.config import RemoverSettings
from cutray.console.progress import download_progress, photo_progress
from cutray.edit import matte_photo
from cutray.errors import InputError
from cutray.evaluation.datasets import fitting_layouts
from cutray.evaluation.drift import Fingerprint, features_of
from cutray.evaluation.photo_features import measure_photo
from cutray.imaging.photo_files import find_photos
from cutray.segmenter import Segmenter
from cutray.sources import decode_source
from cutray.tta import predict


def photos_of(folder: Path) -> list[Path]:
    """List the photos of a folder, without masks where it has them.

    Raises:
        InputError: There are none.
    """
    layouts = fitting_layouts(folder) if folder.is_dir() else []
    searched = dict.fromkeys(images for images, _ in layouts) or [folder]
    photos = [photo for one in searched for photo in find_photos(one)]
    if not photos:
        raise InputError(got=f"no photos in {folder}", allowed="one or more", fix="check the path")
    return photos


def measure_all(photos: Sequence[Path], settings: RemoverSettings, made: Fingerprint) -> int:
    """Count all photos that can be read; returns how many cannot."""
    with download_progress() as told:
        segmenter = Segmenter.load(settings, told)
    failed = 0
    with photo_progress(len(photos), shown=sys.stderr.isatty()) as advance:
        for path in photos:
            try:
                photo = decode_source(str(path), settings)
            except InputError as error:
                click.echo(f"{path}: {error}", err=True)
                failed += 1
            else:
                height_px, width_px = photo.image.pixels.shape[:2]
                (prediction,) = predict([photo.view], segmenter, settings.of_views, settings.batch_size)
                matte = matte_photo(photo, prediction, settings)
                whole = (0, 0, width_px, height_px)
                found = report_of(photo, prediction.looks, matte, whole, settings, segmenter.info)
                values = features_of(
                    measure_photo(photo.view),
                    found=found.subject_found,
                    confidence=found.confidence,
                    area=found.area_fraction,
                    edge_cases=found.edge_cases,
                )
                made.add_all(values)
            advance(failed, None)
    return failed
