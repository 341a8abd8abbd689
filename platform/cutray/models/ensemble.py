"""Several networks as one: their logits are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cutray.errors import EngineError
from cutray.models.catalog import ModelSpec, PreprocessSpec
from cutray.models.u2net import load_u2net
from cutray.models.weights import Weights


class Ensemble(nn.Module):
    """Networks that look at the same input. Exported, they are one file that runs wherever a single network does."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Put networks together.

        Args:
            members: Networks that give logits, the fused map first.
        """
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, S, S) to a tuple with the mean logits (N, 1, S, S), as a single network does in evaluation."""
        return (torch.stack([member(image)[0] for member in self.members]).mean(0),)


def load_ensemble(members: Sequence[Weights]) -> tuple[Ensemble, ModelSpec]:
    """Load networks and put them together.

    Args:
        members: Their weights, two or more, which must want their input prepared in the same way.

    Returns:
        The ensemble, in evaluation mode, and how its input is prepared.

    Raises:
        EngineError: There are fewer than two, or they want different input.
        WeightsError: A file cannot be used.
    """
    if len(members) < 2:
        raise EngineError(got=f"an ensemble of {len(members)}", allowed="two members or more", fix="name more weights")
    first = members[0].spec
    for other in members[1:]:
        for name in PreprocessSpec._fields:
            if getattr(other.spec, name) != getattr(first, name):
                raise EngineError(
                    got=f"{_shown(other)} wants {name} {getattr(other.spec, name)}",
                    allowed=f"{getattr(first, name)}, as {_shown(members[0])} does",
                    fix="put networks together that were trained alike",
                )
    ensemble = Ensemble([load_u2net(one.path).eval() for one in members]).eval()
    names = ", ".join(one.path.stem if one.path.stem != "best" else one.path.parent.name for one in members)
    spec = replace(first, cpu_precisions=(), description=f"mean logits of {names}")
    return ensemble, spec


def _shown(weights: Weights) -> str:
    """Name a file with its folder, because those of all runs are called best.safetensors."""
    return f"{weights.path.parent.name}/{weights.path.name}"
