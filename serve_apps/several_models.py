"""Lays the list of models in a Serve configuration out as one Segmenter deployment for each."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from cutray.errors import ConfigError
from cutray.models import registry
from cutray.models.weights import JOIN
from serve_apps.remover.model_names import DEFAULT_DEPLOYMENT, deployment_of, deployments_of, public_name


def settle_address(model: str, folder: Path) -> str:
    """Return a model's address as replicas can use it, whose working folder is another one.

    Args:
        model: A name, a file, an address in a registry, or several of them joined by ``+``.
        folder: Where the YAML is; files are looked for beside it.

    Raises:
        WeightsError: The registry does not answer, or has no such model.
    """
    if JOIN in model and not os.path.isfile(folder / model):
        return JOIN.join(settle_address(member, folder) for member in model.split(JOIN))
    if os.path.isfile(beside := folder / model):  # False, too, where it cannot be known
        return str(beside)
    if model.startswith(registry.SCHEME):
        # Read again, an alias may stand for another version.
        os.environ["MLFLOW_TRACKING_URI"] = str(registry.store_address())
        return registry.pin(model)
    return model


def lay_out_models(application: dict[str, Any], folder: Path) -> None:
    """Replace the addresses in ``args.models`` by names, and give each model a deployment.

    A model without an entry of its own among the deployments gets that of the default one, with replicas, queues and
    resources. The names stay when a version changes, so that a swap is one of ``user_config`` alone: in place.

    Args:
        application: The application of a Serve configuration; it is changed.
        folder: Where the YAML is.

    Raises:
        ConfigError: A name comes twice, a deployment belongs to no model, or the default is named in two ways.
        WeightsError: The registry does not answer, or has no such model.
    """
    entries = {entry["name"]: entry for entry in application["deployments"]}
    default = entries[DEFAULT_DEPLOYMENT]
    network = default["user_config"]
    listed = list(map(str, application["args"].get("models") or ()))
    names = [public_name(address) for address in listed]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            got=f"models names {double[0]!r} twice", allowed="each model once", fix="remove one, or rename its file"
        )
    known = deployments_of(names)
    if stray := [name for name in entries if name.startswith(f"{DEFAULT_DEPLOYMENT}-") and name not in known]:
        raise ConfigError(
            got=f"the deployment {stray[0]!r} has no model", allowed=", ".join(known), fix="correct models"
        )
    if names and public_name(str(network.get("model", listed[0]))) != names[0]:
        raise ConfigError(
            got=f"the default model is {network['model']!r} in {DEFAULT_DEPLOYMENT} and {listed[0]!r} in models",
            allowed="the same one",
            fix="put the default first in models, and leave it out of user_config",
        )
    if names:
        application["args"]["models"] = names
    for name, address in zip(names, listed, strict=True):
        entry = entries.get(deployment_of(name, names))
        if entry is None:
            entry = {**copy.deepcopy(default), "name": deployment_of(name, names)}
            for own in ("model", "sha256"):  # those of the default model
                entry["user_config"].pop(own, None)
            application["deployments"].append(entry)
        entry["user_config"] = {"model": address, **(entry.get("user_config") or {})}
    for entry in application["deployments"]:
        if entry["name"] in known and "model" in entry["user_config"]:
            entry["user_config"]["model"] = settle_address(entry["user_config"]["model"], folder)
