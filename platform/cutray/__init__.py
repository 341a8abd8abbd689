"""Cutray: isolate a subject from its background.

>>> from cutray import BackgroundRemover  # doctest: +SKIP
>>> cutout, mask = BackgroundRemover().remove_background("photo.jpg", "cutout.png")  # doctest: +SKIP

Importing this package loads nothing heavy; the names below are fetched when they are first used. It switches off the
usage statistics of the libraries behind it, see ``cutray.privacy``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cutray.privacy import disable_telemetry

if TYPE_CHECKING:
    from cutray.freed_memory import keep_freed_memory as keep_freed_memory
    from cutray.remover import BackgroundRemover as BackgroundRemover
    from cutray.remover import Removal as Removal
    from cutray.remover import remove as remove

__version__ = "0.1.0"
__all__ = ["BackgroundRemover", "Removal", "__version__", "keep_freed_memory", "remove"]

_MODULES = {
    "BackgroundRemover": "cutray.remover",
    "Removal": "cutray.remover",
    "keep_freed_memory": "cutray.freed_memory",
    "remove": "cutray.remover",
}

# Here, because libraries decide about their usage statistics when they are imported.
disable_telemetry()


def __getattr__(name: str) -> Any:
    """Fetch the public names on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cutray' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """List the public names, fetched or not."""
    return sorted(__all__)
