"""rembg's ``new_session``: a model, and where it runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutray.compat.providers import Provider, parse_providers
from cutray.compat.sessions.base import BaseSession
from cutray.config import EngineSettings
from cutray.errors import EngineUnavailableError, OptionError, UnknownModelError
from cutray.models.catalog import describe_file

# Names under which rembg takes a file by its path.
_CUSTOM = ("u2net_custom", "dis_custom", "ben_custom")


class UnknownSessionError(UnknownModelError, ValueError):
    """There is no such model; rembg's callers expect a ``ValueError``."""


def new_session(
    model_name: str = "u2net", *args: Any, sess_opts: Any = None, providers: Sequence[Any] | None = None, **kwargs: Any
) -> BaseSession:
    """Load a model once; the result is Cutray's own remover too, with all that it can do besides.

    Args:
        model_name: See ``cutray models list``; with ``model_path`` it is only a label.
        args: There are none.
        sess_opts: ONNX Runtime's session options; only ``intra_op_num_threads`` is used. Without it the threads are
            ``OMP_NUM_THREADS``, if that is set.
        providers: ONNX Runtime's names in order of preference, each alone or with a dictionary of options. The first
            that can be had is used; a warning names the others before it, and options that have no effect.
        kwargs: ``model_path``, or any field of ``cutray.config.EngineSettings`` but the model.

    Raises:
        OptionError: An argument is unknown or of a wrong kind.
        UnknownSessionError: There is no such model.
        CutrayError: As ``BackgroundRemover`` does.
    """
    known = {"model_path", *EngineSettings.model_fields} - {"model"}
    if unknown := [*map(repr, args), *(kwargs.keys() - known)]:
        raise OptionError(
            f"unknown arguments {', '.join(unknown)}",
            f"model_name, providers, sess_opts, {', '.join(sorted(known))}",
            "leave them out, or use `cutray.remove`",
        )
    model = kwargs.pop("model_path", None)
    if model is None and model_name in _CUSTOM:
        raise OptionError(f"model {model_name!r} without model_path", "the path of an .onnx file", "add model_path")
    if model_name == "dis_custom" and describe_file(Path(model)).architecture != "isnet":
        raise OptionError(
            f"dis_custom with {model}, which is described as a U²-Net",
            "a file with isnet in its name, or with a description beside it",
            f'write `architecture = "isnet"` and the rest of `cutray models show isnet-general-use` to '
            f"{Path(model).with_suffix('.toml')}",
        )
    common = {"precision": "fp32", "threads": _threads(sess_opts), **kwargs}
    session, notes = _load_first(str(model or model_name), parse_providers(providers), common)
    if notes:
        engine = session.segmenter.engine
        message = f"{'; '.join(notes)}. The session runs with {engine.name} on {engine.device}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return session


def _load_first(model: str, providers: Sequence[Provider], common: dict[str, Any]) -> tuple[BaseSession, list[str]]:
    """Load a model with the first provider that can be had, and say what was passed over."""
    notes: list[str] = []
    refusal = EngineUnavailableError("none of the providers is to be had here", "CPUExecutionProvider, for one")
    for provider in providers:
        if provider.settings is None:
            notes.append(f"there is no {provider.name} here")
            continue
        notes += [f"{provider.name}: {name} has no effect" for name in provider.ignored]
        try:
            return BaseSession(model, **{**provider.settings, **common}), notes
        except UnknownModelError as error:
            raise UnknownSessionError(error.got, error.allowed, error.fix) from error
        except EngineUnavailableError as error:
            refusal = error
            notes.append(f"{provider.name}: {error.got}")
    raise refusal


def _threads(sess_opts: Any) -> int:
    """Return how many threads are asked for; 0 for the default."""
    asked = getattr(sess_opts, "intra_op_num_threads", 0) or os.environ.get("OMP_NUM_THREADS", "0")
    return int(asked) if str(asked).isdecimal() else 0
