"""What a kit is to do: measurements, trainings and commands, checked where it is packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from cutray.config import Settings, TrainSettings, parse_settings
from cutray.errors import ConfigError
from cutray.regular_file import read_text
from pipelines.run_settings import load_settings, merged, read_yaml


class MeasureSettings(Settings):
    """What is measured of the networks alone, and of a photo from file to file.

    Attributes:
        models: Networks, with random weights.
        sides_px: Their inputs.
        batches: Photos at a time that run.
        train_batch: Photos at a time that are learned from.
        product_px: Side of the matrices whose product says what the device can do.
        compile_loss: Learn with a compiled loss, too; takes half a minute each time.
        compile_batches: Batches of which the engine is also measured with compiled blocks; each takes a minute or so.
        photo_px: Width and height of the photo.
        photo_runs: How often it is taken through the chain.
        seconds: After these no further measurement of a network begins.
    """

    models: tuple[str, ...] = ("u2netp",)
    sides_px: tuple[int, ...] = (320,)
    batches: tuple[int, ...] = (1, 8, 32)
    train_batch: int = Field(64, ge=2)
    product_px: int = Field(8192, ge=64)
    compile_loss: bool = True
    compile_batches: tuple[int, ...] = (32,)
    photo_px: tuple[int, int] = (4000, 3000)
    photo_runs: int = Field(10, ge=1)
    seconds: float = Field(150.0, gt=0)


class TrainItem(Settings):
    """A training; it gets its share of the time that is left."""

    name: str = Field(pattern=r"^[\w-]+$")
    share: float = Field(1.0, gt=0)
    data: tuple[str, ...] = ()
    settings: TrainSettings


class CommandItem(Settings):
    """A command of the package, such as `python -m pipelines.train_refiner`; {work} and {out} stand for folders."""

    name: str = Field(pattern=r"^[\w-]+$")
    share: float = Field(1.0, gt=0)
    words: tuple[str, ...] = Field(min_length=1)


class Queue(Settings):
    """All of it, in the order in which it is done: measurements, trainings, commands."""

    measure: MeasureSettings | None = None
    train: tuple[TrainItem, ...] = ()
    commands: tuple[CommandItem, ...] = ()


def read_queue(path: Path) -> Queue:
    """Read a queue as it is written by hand (YAML), with presets, or as it is packed (JSON), without.

    Raises:
        ConfigError: Something in it is unknown or not allowed; or two items have one name.
    """
    values = _read_json(path) if path.suffix == ".json" else read_yaml(path)
    items: list[dict[str, Any]] = []
    for item in values.get("train", ()):
        preset = load_settings(item.get("preset"), None)
        rest = {name: value for name, value in item.items() if name != "preset"}
        items.append({**rest, "settings": merged(preset, item.get("settings", {}))})
    for item in items:
        parse_settings(TrainSettings, item["settings"])  # names what is wrong by its own path
    queue = parse_settings(Queue, {**values, "train": items})
    names = [*(item.name for item in queue.train), *(item.name for item in queue.commands)]
    if len(set(names)) < len(names):
        raise ConfigError(got=f"items named {', '.join(names)}", allowed="a name of its own for each")
    return queue


def _read_json(path: Path) -> dict[str, Any]:
    """Read a packed queue, without PyYAML, which the machine may lack."""
    try:
        return dict(json.loads(read_text(path)))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(got=f"{path} cannot be read: {error}", fix="pack the kit anew") from error
