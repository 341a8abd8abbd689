"""Models in an MLflow registry, under addresses such as ``models:/shoes@champion``."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutray.errors import (
    ChecksumError,
    ConfigError,
    CutrayError,
    MissingExtraError,
    UnknownModelError,
    WeightsUnavailableError,
)
from cutray.file_lock import lock_file
from cutray.folders import provide_home

SCHEME = "models:/"
FILE = "model.onnx"
_DEFAULT_FOLDER = "runs"
_DIGEST = "sha256"
_SQLITE = "sqlite:///"
# A server that is down must not hold up its callers for minutes.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def store_address(setting: str = "", folder: str = _DEFAULT_FOLDER) -> str | None:
    """Settle where runs and models are kept.

    Args:
        setting: Address of a server or store; "none" for nowhere; empty reads ``MLFLOW_TRACKING_URI`` and falls back
            to a file in ``folder``.
        folder: Folder of the training runs.
    """
    if setting == "none":
        return None
    address = setting or os.environ.get("MLFLOW_TRACKING_URI", "")
    return address or f"{_SQLITE}{Path(folder).resolve() / 'mlflow.db'}"


def client(uri: str) -> Any:
    """Return an MLflow client that gives up soon.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    provide_home()  # MLflow cannot be imported without one
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise MissingExtraError(got="mlflow is not installed", fix="run `pip install 'cutray[train]'`") from error
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells of each new file
    return MlflowClient(tracking_uri=uri)


def pin(model: str) -> str:
    """Turn an alias into the version that it stands for now: ``models:/shoes@champion`` into ``models:/shoes/3``.

    Args:
        model: An address in the registry.

    Raises:
        UnknownModelError: The address is malformed, or there is no such model, version or alias.
        WeightsUnavailableError: The registry does not answer.
    """
    name, version = _look_up(model)[:2]
    return f"{SCHEME}{name}/{version}"


def fetch(model: str, cache: Path) -> Path:
    """Return the folder with the files of a registered model, downloading them once.

    Args:
        model: An address in the registry.
        cache: Folder of the downloads.

    Returns:
        A folder that holds ``model.onnx`` and the files that were registered with it.

    Raises:
        UnknownModelError: The address is malformed, or there is no such model, version or alias.
        WeightsUnavailableError: The registry does not answer.
        ChecksumError: The registry's file has other bytes than those that were registered.
    """
    name, version, digest, source = _look_up(model)
    folder = cache / "registry" / name / version
    if _digest_of(folder / FILE) == digest:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        fresh = Path(made) / "model"
        fresh.mkdir()
        _download(source, fresh)
        found = _digest_of(fresh / FILE)
        if found != digest:
            raise ChecksumError(
                got=f"{model} has a file with the hash {found or '(none)'}", allowed=digest, fix="register it again"
            )
        _put_in_place(fresh, folder, digest)
    return folder


def _put_in_place(fresh: Path, folder: Path, digest: str) -> None:
    """Give a downloaded folder its name, all at once, unless another process was quicker; a damaged one gives way."""
    with (folder.parent.parent / ".lock").open("wb") as lock:
        lock_file(lock, wait=True)
        if _digest_of(folder / FILE) == digest:
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
            if folder.exists():
                folder.rename(Path(aside) / "damaged")
            fresh.rename(folder)


def register(name: str, folder: Path, tags: Mapping[str, str]) -> str:
    """Add a version of a model to the registry.

    Args:
        name: Name of the model, created if there is none.
        folder: Holds ``model.onnx`` and what belongs to it.
        tags: Written with the version.

    Returns:
        The version.

    Raises:
        ConfigError: The name cannot be used.
        WeightsUnavailableError: The registry does not answer.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(got=f"the name {name!r}", allowed="letters, digits, dots, dashes and underscores")
    uri = str(store_address())
    store = client(uri)
    import mlflow
    import numpy as np
    import onnx
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.onnx import log_model
    from mlflow.types import Schema, TensorSpec

    network = onnx.load(folder / FILE)
    side = network.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 3, side, side), "image")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, side, side), "probs")]),
    )
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(experiment_id=open_experiment(store, uri, "registered"))
        with mlflow.start_run(run_name=name) as run:
            logged = log_model(network, name="model", signature=signature, save_as_external_data=False)
            for path in sorted(folder.iterdir()):
                if path.name != FILE:
                    mlflow.log_artifact(str(path), "extras")
            run_id = run.info.run_id
        with tempfile.TemporaryDirectory() as check:
            stored = mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=check)
            digest = _digest_of(Path(stored) / FILE)
        if not store.search_registered_models(f"name='{name}'"):
            store.create_registered_model(name)
        made = store.create_model_version(
            name, logged.model_uri, run_id, tags={**tags, _DIGEST: digest, "extras": run_id}, model_id=logged.model_id
        )
    except (MlflowException, OSError) as error:
        raise _silent(uri, error) from error
    return str(made.version)


def champion_of(name: str, alias: str) -> str | None:
    """Return the address of the version that has an alias, or None.

    Raises:
        WeightsUnavailableError: The registry does not answer.
    """
    try:
        return pin(f"{SCHEME}{name}@{alias}")
    except UnknownModelError:
        return None


def set_alias(name: str, alias: str, version: str) -> None:
    """Let an alias stand for a version.

    Raises:
        WeightsUnavailableError: The registry does not answer.
    """
    uri = str(store_address())
    store = client(uri)
    from mlflow.exceptions import MlflowException

    try:
        store.set_registered_model_alias(name, alias, version)
    except (MlflowException, OSError) as error:
        raise _silent(uri, error) from error


def open_experiment(store: Any, uri: str, name: str) -> str:
    """Return the id of an experiment, creating it if need be; a local store keeps its files beside itself."""
    if found := store.get_experiment_by_name(name):
        return str(found.experiment_id)
    beside = {}
    if uri.startswith(_SQLITE):
        beside = {
            "artifact_location": (Path(uri.removeprefix(_SQLITE)).absolute().parent / "artifacts" / name).as_uri()
        }
    return str(store.create_experiment(name, **beside))


def _look_up(model: str) -> tuple[str, str, str, tuple[str, str, str]]:
    """Return name, version, hash and place of a registered model."""
    match = re.fullmatch(r"models:/([\w.-]+)(?:@([\w-]+)|/(\d+))", model)
    if not match:
        raise UnknownModelError(
            got=f"the address {model!r}", allowed="models:/NAME@ALIAS or models:/NAME/VERSION", fix="correct it"
        )
    name, alias, version = match.groups()
    uri = str(store_address())
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
        raise UnknownModelError(
            got=f"there is no registry at {uri}",
            fix="go to the folder that holds runs/, set MLFLOW_TRACKING_URI, or register a model with "
            "`cutray register`",
        )
    store = client(uri)
    from mlflow.exceptions import MlflowException

    try:
        found = store.get_model_version_by_alias(name, alias) if alias else store.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise UnknownModelError(
                got=f"the registry at {uri} has no {model!r}",
                fix="register it with `cutray register`, or set MLFLOW_TRACKING_URI to the right one",
            ) from error
        raise _silent(uri, error) from error
    except OSError as error:
        raise _silent(uri, error) from error
    if _DIGEST not in found.tags:
        raise UnknownModelError(
            got=f"{model!r} was not registered by Cutray: it has no hash", fix="register it with `cutray register`"
        )
    return name, str(found.version), found.tags[_DIGEST], (uri, found.source, found.tags.get("extras", ""))


def _download(source: tuple[str, str, str], folder: Path) -> None:
    """Download a model's files."""
    uri, model, run_id = source
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        place = _place_of(client(uri), model)
        got = Path(mlflow.artifacts.download_artifacts(place, dst_path=str(folder / "mlflow"), tracking_uri=uri))
        shutil.move(got / FILE, folder / FILE)
        shutil.rmtree(folder / "mlflow")
        if run_id and any(entry.path == "extras" for entry in client(uri).list_artifacts(run_id)):
            got = Path(client(uri).download_artifacts(run_id, "extras", str(folder)))
            for path in got.iterdir():
                shutil.move(path, folder / path.name)
            got.rmdir()
    except (MlflowException, OSError) as error:
        raise _silent(uri, error) from error


def _place_of(store: Any, source: str) -> str:
    """Return where a model's files lie: MLflow looks for its own addresses in the store of its process alone."""
    logged = re.fullmatch(r"models:/(m-[0-9a-f]+)", source)
    return str(store.get_logged_model(logged[1]).artifact_location) if logged else source


def _digest_of(path: Path) -> str:
    """Hash a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _silent(uri: str, error: Exception) -> CutrayError:
    """Say that the registry cannot be used now."""
    return WeightsUnavailableError(
        got=f"the MLflow registry at {uri} does not answer: {str(error).splitlines()[0]}",
        fix="check MLFLOW_TRACKING_URI and that the server runs",
    )
