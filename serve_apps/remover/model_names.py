"""The names by which clients choose a model, and the deployment behind each: a model has Segmenters of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cutray.models.registry import SCHEME
from cutray.models.weights import JOIN, SUFFIXES

DEFAULT_DEPLOYMENT = "Segmenter"


def deployment_of(name: str, models: Sequence[str]) -> str:
    """Return the deployment that runs a model: the default one's is ``Segmenter``, any other's ``Segmenter-NAME``.

    Args:
        name: A name of ``models``.
        models: All names, the default first; empty where a single model is served, whatever its name is.
    """
    return DEFAULT_DEPLOYMENT if not models or name == models[0] else f"{DEFAULT_DEPLOYMENT}-{name}"


def deployments_of(models: Sequence[str]) -> list[str]:
    """Return the deployments of all models, the default's first."""
    return [deployment_of(name, models) for name in models] or [DEFAULT_DEPLOYMENT]


def public_name(address: str) -> str:
    """Return what clients call a model: no path, no version, so that a swap changes nothing for them.

    Args:
        address: A name, a file, ``models:/NAME@ALIAS``, or several of them joined by ``+``.
    """
    if JOIN in address:
        return JOIN.join(map(public_name, address.split(JOIN)))
    if address.startswith(SCHEME):
        return address.removeprefix(SCHEME).split("@")[0].split("/")[0]
    return Path(address).stem if address.lower().endswith(SUFFIXES) else address


def names_of(served: str) -> list[str]:
    """Return the names of a model that is served alone: a version of the registry goes by its bare name as well.

    Args:
        served: What the network calls itself, such as ``shoes/3``, or several of them joined by ``+``.
    """
    bare = JOIN.join(member.split("/")[0] for member in served.split(JOIN))
    return list(dict.fromkeys((bare, served)))


def match_name(wanted: str, models: Sequence[str]) -> str | None:
    """Return the name that a client means, or None.

    Args:
        wanted: What came. In a query ``+`` reads as a space, and many clients do not escape it.
        models: All names.
    """
    return next((name for name in (wanted, wanted.replace(" ", JOIN)) if name in models), None)
