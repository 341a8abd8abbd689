"""Writes networks as one file that runs wherever a model is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cutray.imaging.files import write_atomically
from cutray.models.weights import Weights, resolve


def write_ensemble(output: Path, members: Sequence[Weights], sections: Mapping[str, str] | None = None) -> str:
    """Write networks as one ONNX file, with its description and card beside it.

    Args:
        output: The file to write; one that is there is replaced.
        members: The networks.
        sections: Further sections of the card; cards of the members are beside their weights.

    Returns:
        What the file is, in words.
    """
    from cutray.models.ensemble import load_ensemble
    from cutray.models.export import describe_model, export_onnx
    from cutray.training.model_card import card_path, model_card

    ensemble, spec = load_ensemble(members)
    exported = export_onnx(ensemble, spec.input_size_px)
    write_atomically(output, exported.data, overwrite=True)
    write_atomically(output.with_suffix(".toml"), describe_model(spec).encode(), overwrite=True)
    names = [f"- {one.path.parent.name}/{one.path.name}: {one.spec.license}" for one in members]
    card = model_card(resolve(str(output)), {"Members": "\n".join(names), **(sections or {})})
    write_atomically(card_path(output), card.encode(), overwrite=True)
    return spec.description
