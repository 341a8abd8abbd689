"""The settings that a run was begun with, as its folder keeps them; a run goes on with the same ones alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutray.config import AUTO, TrainSettings, describe_differences, fingerprint, parse_settings, result_values
from cutray.data.catalog import Catalog
from cutray.errors import ConfigError
from cutray.imaging.files import write_atomically
from cutray.training import checkpoints

SETTINGS_FILE = "settings.json"
_EPOCHS = "optim.epochs"
# What the fingerprints of earlier versions left out.
_EARLIER_WITHOUT_EFFECT = (
    *("name", "save_dir", "tracking_uri", "experiment", "address", "workers", "min_workers"),
    *("cpus_per_worker", "threads_per_worker", "gpus_per_worker", "compile"),
    *("checkpoint_every_steps", "keep_checkpoints", "max_failures"),
)


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a run that was begun.

    Raises:
        ConfigError: There is no such file, or it is damaged.
    """
    try:
        values: Any = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("no table of settings")
    except (OSError, ValueError) as error:
        raise ConfigError(
            got=f"the settings of the run in {path.parent} cannot be read: {error}",
            allowed=f"{path.name} as the run wrote it",
            fix="put it back, or begin a run under another name",
        ) from error
    return values


def write_settings(settings: TrainSettings, path: Path) -> None:
    """Write the settings down; a file that says the same stays, since earlier checkpoints are known by its bytes."""
    if path.is_file() and parse_settings(TrainSettings, read_settings(path)) == settings:
        return
    write_atomically(path, settings.model_dump_json(indent=1).encode(), overwrite=True)


def adopt_batch(settings: TrainSettings, of_run: Path | None = None) -> TrainSettings:
    """Take the batch size that memory decided when a run was begun.

    Args:
        settings: Those that may leave the size to memory.
        of_run: Folder of another run whose size is taken, as the first fold's for all; None: of the run itself, if it
            is gone on with.
    """
    run_dir = of_run or Path(settings.save_dir).resolve() / settings.name
    unsettled = AUTO in (settings.optim.batch_size, settings.optim.accumulate)
    if not (unsettled and settings.name and (of_run or checkpoints.checkpoint_folders(run_dir))):
        return settings
    begun = parse_settings(TrainSettings, read_settings(run_dir / SETTINGS_FILE)).optim
    size = settings.optim.batch_size or begun.batch_size
    settled = {"batch_size": size, "accumulate": settings.optim.accumulate or begun.accumulate}
    return settings.model_copy(update={"optim": settings.optim.model_copy(update=settled)})


def accepted_hashes(settings: TrainSettings, catalog: Catalog, run_dir: Path) -> tuple[str, ...]:
    """Return the fingerprints that this run's checkpoints may have, that of new ones first.

    More epochs continue a run, so that their number is no part of it. Checkpoints of earlier versions have a
    fingerprint of other parts of the settings; it is made from the run's own file of settings.
    """
    fresh = fingerprint({**result_values(settings, exclude=[_EPOCHS]), "catalog": catalog.fingerprint})
    stored = stored_settings(settings, run_dir)
    # The last version may have had fewer settings; those that came since have their defaults in a run of it.
    known = flatten(stored)
    fewer = {path: value for path, value in result_values(settings, exclude=[_EPOCHS]).items() if path in known}
    earlier = {name: value for name, value in stored.items() if name not in _EARLIER_WITHOUT_EFFECT}
    if not stored:
        return (fresh,)
    return fresh, *(fingerprint({**values, "catalog": catalog.fingerprint}) for values in (fewer, earlier))


def stored_settings(settings: TrainSettings, run_dir: Path) -> dict[str, Any]:
    """Return the settings that a run was begun with, as they are stored; empty if it has no checkpoint yet.

    Raises:
        ConfigError: They are others than those wanted now, and the message names them; or the file is damaged.
    """
    path = run_dir / SETTINGS_FILE
    if not checkpoints.checkpoint_folders(run_dir) or not path.is_file():
        return {}
    stored = read_settings(path)
    begun = parse_settings(TrainSettings, stored)
    both = (result_values(one, exclude=[_EPOCHS]) for one in (begun, settings))
    if differences := describe_differences(*both):
        raise ConfigError(
            got=f"{run_dir} holds a run with other settings: {'; '.join(differences)}",
            fix="go on with the settings of that run, or choose another name",
        )
    return stored


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested settings with dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
