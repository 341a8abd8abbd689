"""Which model a challenger is, and whom it challenges."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cutray.errors import UnknownModelError
from cutray.models import registry
from cutray.models.catalog import list_models
from cutray.models.elsewhere import unknown_model
from cutray.models.weights import JOIN, SUFFIXES
from serve_apps.remover.model_names import match_name, public_name
from serve_apps.rollout.records import StartRequest


def settle_challenger(model: str) -> str:
    """Return the challenger's address with versions in place of aliases.

    Args:
        model: A name, a file, ``models:/NAME@ALIAS``, or several of them joined by ``+``.

    Raises:
        UnknownModelError: There is no such model.
        WeightsUnavailableError: The registry does not answer.
    """
    if os.path.isfile(model) and model.lower().endswith(SUFFIXES):
        return model
    if JOIN in model:
        return JOIN.join(map(settle_challenger, model.split(JOIN)))
    if model.startswith(registry.SCHEME):
        return registry.pin(model)
    known = {spec.name: spec for spec in list_models()}
    if model not in known:
        raise unknown_model(
            model,
            known,
            f"names are {', '.join(known)}; models:/NAME@ALIAS; files of the endpoint's machine that end in "
            f"{', '.join(SUFFIXES)}",
        )
    return model


def challenged_model(request: StartRequest, models: Sequence[str]) -> str:
    """Return the served model that is challenged; empty where only one is served.

    Args:
        request: Names it, or leaves it to the challenger's own name.
        models: Names of all that are served, the default first.

    Raises:
        UnknownModelError: It is not served.
    """
    if not request.challenges:
        own = public_name(request.model)
        return own if own in models else models[0] if models else ""
    name = match_name(request.challenges, models)
    if name is None:
        raise UnknownModelError(
            got=f"the model {request.challenges!r} is not served by its name here",
            allowed=", ".join(models) or "nothing, because a single model is served",
            fix="leave it out, or name another one",
        )
    return name
