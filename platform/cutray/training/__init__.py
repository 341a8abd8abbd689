"""Training: the loop, its loss, its checkpoints and what is written down about it.

>>> from cutray.training import fit  # doctest: +SKIP
>>> result = fit("shoes/", epochs=5, callbacks=[print])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutray.training.local import fit as fit

__all__ = ["fit"]


def __getattr__(name: str) -> Any:
    """Fetch the public name on first use."""
    if name == "fit":
        from cutray.training.local import fit

        return fit
    raise AttributeError(f"module 'cutray.training' has no attribute {name!r}")
