"""Settings of a training of the edge refiner."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cutray.config.metadata import Setting
from cutray.config.shared import AdamWSettings, EmaDecay, LearningRate, WarmupShare


class RefinerSettings(AdamWSettings):
    """One training of the edge refiner."""

    title: ClassVar[str] = "Edge refiner"

    lr: LearningRate = 2e-3
    warmup_share: WarmupShare = 0.03
    ema_decay: EmaDecay = 0.998
    steps: int = Field(4000, ge=1, description="Training steps; the learning rate falls to zero at the last one.")
    batch_size: int = Field(8, ge=1, description="Crops per step.")
    crop_px: int = Field(192, ge=64, multiple_of=16, description="Side of a crop, in pixels.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
    threads: Annotated[int, Setting(affects_result=False)] = Field(
        0, ge=0, description="CPU threads of the network; 0 means all cores."
    )
    loaders: Annotated[int, Setting(affects_result=False)] = Field(
        1, ge=1, description="Threads that prepare crops in advance."
    )
    report_every_steps: Annotated[int, Setting(affects_result=False)] = Field(
        200, ge=1, description="Steps between progress reports."
    )
