"""Settings of what the endpoint notes about the photos that it sees."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cutray.config.base import Settings
from cutray.config.metadata import Setting
from cutray.config.paths import FilePath

_KEPT = Setting(affects_result=False)


class DriftSettings(Settings):
    """Whether photos are compared with those that the model was trained on, and whether any are kept."""

    title: ClassVar[str] = "Drift and samples of the endpoint"

    watch: Annotated[bool, _KEPT] = Field(
        True, description="Count brightness, sharpness, size, confidence and area of photos; no photo is kept."
    )
    reference: Annotated[str, FilePath, _KEPT] = Field(
        "",
        description="Fingerprint of the training data, from `cutray drift fingerprint`; empty: the one beside the "
        "weights of each model, if there is one.",
    )
    window_photos: Annotated[int, _KEPT] = Field(
        1000, ge=100, le=100_000, description="Latest photos, per Cutter and model, that are compared."
    )
    samples: Annotated[str, FilePath, _KEPT] = Field(
        "", description="Folder for the photos that the network is least sure of; empty: no photo is ever kept."
    )
    samples_max: Annotated[int, _KEPT] = Field(200, ge=1, le=100_000, description="Most photos in that folder.")
    samples_days: Annotated[float, _KEPT] = Field(
        30.0, gt=0, description="Days after which a photo there is deleted, while the endpoint runs."
    )
