"""ONNX Runtime's list of providers, as programs write it, in the words of the engine settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cutray.errors import OptionError

# The GPU runs in fp32 under both names, since masks must be the ones that the program has got so far.
_SETTINGS: dict[str, dict[str, str]] = {
    "CPUExecutionProvider": {"device": "cpu"},
    "CUDAExecutionProvider": {"device": "cuda"},
    "TensorrtExecutionProvider": {"device": "cuda"},
    "OpenVINOExecutionProvider": {"engine": "openvino", "device": "cpu"},
}
# Always in the list of what is available, and never runs anything on this machine.
_WITHOUT_EFFECT = ("AzureExecutionProvider",)
# Options whose value is what happens anyway.
_DEFAULTS = {"device_id": ("0",), "device_type": ("CPU", "AUTO")}


@dataclass(frozen=True, slots=True)
class Provider:
    """One entry of the list.

    Attributes:
        name: As the program wrote it.
        settings: Engine settings that stand for it; None if nothing here does.
        ignored: Names of options that have no effect.
    """

    name: str
    settings: Mapping[str, str] | None = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def parse_providers(providers: Any) -> list[Provider]:
    """Translate a list of preferences.

    Args:
        providers: None, one name, one pair of a name and a dictionary of options, or a sequence of either.

    Returns:
        At least one entry, best first. The CPU is the last one, as ONNX Runtime adds it; with nothing asked for,
        there is a single entry without settings.

    Raises:
        OptionError: It is something else.
    """
    if providers is None:
        return [Provider("auto")]
    if isinstance(providers, str) or _is_pair(providers):
        providers = [providers]
    if not isinstance(providers, Sequence):
        raise _wrong(providers)
    found = [_parse_entry(entry) for entry in providers]
    found = [entry for entry in found if entry.name not in _WITHOUT_EFFECT]
    if not found:
        return [Provider("auto")]
    if all(entry.name != "CPUExecutionProvider" for entry in found):
        found.append(Provider("CPUExecutionProvider", _SETTINGS["CPUExecutionProvider"]))
    return found


def _parse_entry(entry: Any) -> Provider:
    """Translate one entry."""
    name, options = entry if _is_pair(entry) else (entry, {})
    if not isinstance(name, str):
        raise _wrong(entry)
    ignored = tuple(key for key, value in options.items() if str(value) not in _DEFAULTS.get(key, ()))
    return Provider(name, _SETTINGS.get(name), ignored)


def _is_pair(entry: Any) -> bool:
    """Tell whether something is a name with options."""
    return isinstance(entry, Sequence) and len(entry) == 2 and isinstance(entry[1], Mapping)


def _wrong(found: Any) -> OptionError:
    """Say what a list of providers looks like."""
    return OptionError(
        f"providers hold {found!r}", "names, each alone or as (name, {option: value})", "correct it, or leave it out"
    )
