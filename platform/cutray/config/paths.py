"""Paths among the settings are made absolute as they are parsed: Ray's workers run in folders of their own."""

from __future__ import annotations

import os
from typing import TypeVar

from pydantic import AfterValidator

_MODEL_SUFFIXES = (".onnx", ".pth", ".safetensors")
_SQLITE = "sqlite:///"

PathT = TypeVar("PathT", str, tuple[str, ...], str | None)


def absolute_path(value: PathT) -> PathT:
    """Make one or several paths absolute, as seen from the current folder.

    Args:
        value: Paths; ``~`` is the home folder. Empty ones, None and addresses such as ``s3://…`` stay as they are.
    """
    if isinstance(value, tuple):
        return tuple(absolute_path(one) for one in value)
    if not value or "://" in value:
        return value
    return os.path.abspath(os.path.expanduser(value))


def absolute_model(value: str) -> str:
    """Make the paths of a model's files absolute; names and registry addresses stay as they are.

    Args:
        value: A name, a file, an address, or several of them joined by ``+``.
    """
    if "+" in value and not os.path.isfile(os.path.expanduser(value)):
        return "+".join(map(absolute_model, value.split("+")))
    return absolute_path(value) if value.lower().endswith(_MODEL_SUFFIXES) else value


def absolute_store(value: str) -> str:
    """Make the address of an MLflow store absolute where it is a folder or an SQLite file."""
    if value.startswith(_SQLITE):
        return _SQLITE + absolute_path(value.removeprefix(_SQLITE))
    return value if value in ("", "none", "databricks") else absolute_path(value)


FilePath = AfterValidator(absolute_path)
ModelFile = AfterValidator(absolute_model)
StoreAddress = AfterValidator(absolute_store)
