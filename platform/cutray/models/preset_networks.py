"""Which networks the qualities run: `fast` a lean U²-Net, `best` IS-Net as well, where its weights are at hand."""

from __future__ import annotations

import logging

from cutray.config import RemoverSettings
from cutray.models.weights import JOIN, list_models, locate

_LEAN, _SECOND = "u2net-lean", "isnet"

_log = logging.getLogger(__name__)


def name_networks(settings: RemoverSettings) -> RemoverSettings:
    """Name the model that a quality stands for, where nobody has named one.

    `fast` runs the lean network, which is part of the package. The second network of `best` is 88 MB with a licence of
    its own, so it is never fetched unasked. Without it `best` looks closer with U²-Net alone, and a warning says what
    is missing. From then on the model counts as named: processes and machines that get these settings run the same
    networks.

    Args:
        settings: Of a remover that is about to be loaded.

    Returns:
        The same settings, with `model` set if the quality is `fast` or `best`.
    """
    if settings.quality == "balanced" or settings.compat or "model" in settings.model_fields_set:
        return settings
    if settings.quality == "fast":
        return settings.model_copy(update={"model": _LEAN})
    model = settings.model
    spec = next(one for one in list_models() if one.name == _SECOND)
    if locate(spec) is not None:
        model = JOIN.join((model, _SECOND))
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
