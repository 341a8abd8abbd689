"""Which networks the qualities run: a lean U²-Net, and `best` U²-Net and IS-Net, where its weights are at hand."""

from __future__ import annotations

import logging

from cutray.config import RemoverSettings
from cutray.models.weights import JOIN, list_models, locate

_FAST, _FULL, _SECOND = "u2net-lean-288", "u2net", "isnet"

_log = logging.getLogger(__name__)


def name_networks(settings: RemoverSettings) -> RemoverSettings:
    """Name the model that a quality stands for, where nobody has named one.

    `balanced` runs the lean network, which is part of the package, and `fast` the same on smaller pictures. `best` runs
    U²-Net and a second network, which is 88 MB with a licence of its own, so it is never fetched unasked. Without it
    `best` looks closer with U²-Net alone, and a warning says what is missing. rembg's recipe runs U²-Net as rembg does.
    From then on the model counts as named: processes and machines that get these settings run the same networks.

    Args:
        settings: Of a remover that is about to be loaded.

    Returns:
        The same settings, with `model` set if another one than the default is meant.
    """
    if "model" in settings.model_fields_set:
        return settings
    if settings.compat:
        return settings.model_copy(update={"model": _FULL})
    if settings.quality == "balanced":
        return settings
    if settings.quality == "fast":
        return settings.model_copy(update={"model": _FAST})
    model = _FULL
    spec = next(one for one in list_models() if one.name == _SECOND)
    if locate(spec) is not None:
        model = JOIN.join((_FULL, _SECOND))
    else:
        _log.warning(
            "quality best runs %s alone: `cutray models pull %s` fetches its second network (%.0f MB; licence: %s); "
            "name a model to be rid of this line",
            model,
            _SECOND,
            spec.size_bytes / 1e6,
            spec.license,
        )
    return settings.model_copy(update={"model": model})
