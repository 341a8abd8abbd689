"""Find the calibration statistics with which a model's weights compute in eight bits."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from cutray.errors import EngineUnavailableError
from cutray.models.catalog import list_models
from cutray.models.weights import Weights

SUFFIX = ".int8.npz"
_PACKAGED = Path(__file__).parent


def find_stats(weights: Weights) -> Path:
    """Return the file of statistics for a file of weights: the packaged one, or one that lies beside the weights.

    Raises:
        EngineUnavailableError: There are none, or only some for other weights.
    """
    # Models of the same file share its statistics.
    packaged, beside = _PACKAGED / Path(weights.spec.file).with_suffix(SUFFIX), weights.path.with_suffix(SUFFIX)
    for path in (packaged, beside):
        if _made_for(path) == weights.sha256:
            return path
    names = [spec.name for spec in list_models() if (_PACKAGED / Path(spec.file).with_suffix(SUFFIX)).is_file()]
    raise EngineUnavailableError(
        got=f"precision int8 was asked for, but {beside} was made for other weights"
        if beside.is_file()
        else f"precision int8 was asked for, but {weights.path.name} has no calibration statistics for it",
        allowed=f"the published weights of {', '.join(names)} have them",
        fix=f"make them with `python -m pipelines.calibrate --model {weights.path} --images FOLDER`, "
        "or leave the precision to auto",
    )


def _made_for(path: Path) -> str:
    """Return the hash of the weights that the statistics were made for; empty if there are no readable ones."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return str(stored["sha256"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return ""
