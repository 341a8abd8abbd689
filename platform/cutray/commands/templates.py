"""The ``templates`` verb: list templates, print one to copy, or try all on a photo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cutray.config.templates import ABOUT, list_templates, template_values


@click.command()
@click.argument("name", required=False)
@click.option("--try", "photo", type=click.Path(path_type=Path), help="Show this photo in every template.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture to write, with --try.")
@click.option("--overwrite", is_flag=True, help="Replace the picture if it exists.")
@click.option("-m", "--model", help="Model for --try; that of `cutray remove` if not given.")
def templates(name: str | None, photo: Path | None, output: Path | None, overwrite: bool, model: str | None) -> int:
    """List the templates that `--template` takes, or print one in TOML.

    \b
    cutray templates                                    all, with what they are for
    cutray templates square-white > shop.toml           one, to make an own one of
    cutray remove photos/ -o out/ --template shop.toml  and to use it
    cutray templates --try photo.jpg -o sheet.webp      a photo in each of them
    """
    if photo is not None:
        if output is None:
            raise click.UsageError("--try without --output: name a picture to write, such as -o sheet.webp")
        _write_sheet(photo, output, model, overwrite=overwrite)
        return 0
    found = list_templates()
    if name is None:
        width = max(map(len, found)) + 2
        for key, values in found.items():
            click.echo(f"{key:<{width}}{values.get(ABOUT, '')}")
        return 0
    from cutray.config import PictureSettings

    values = {ABOUT: found[name][ABOUT]} if ABOUT in found.get(name, {}) else {}
    values |= template_values(name, PictureSettings.model_fields)
    title = name if name.replace("-", "").isalnum() else _toml(name)
    click.echo(f"[{title}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in values.items()))
    return 0


def _toml(value: Any) -> str:
    """Write a value as TOML does."""
    return json.dumps(value, ensure_ascii=False)


def _write_sheet(photo: Path, output: Path, model: str | None, *, overwrite: bool) -> None:
    """Draw a photo in every template, side by side, each under its name."""
    from cutray.imaging.encode import encode_image, parse_format
    from cutray.imaging.files import write_atomically
    from cutray.imaging.template_sheet import draw_sheet
    from cutray.preflight import check_new_file
    from cutray.remover import BackgroundRemover

    format_name = parse_format(output)
    check_new_file(output, overwrite=overwrite)
    remover = BackgroundRemover(model)
    pictures = {name: remover.remove_background(photo, template=name).cutout for name in list_templates()}
    write_atomically(output, encode_image(draw_sheet(pictures), format_name), overwrite=overwrite)
