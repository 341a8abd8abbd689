"""Settings of a training of the edge refiner."""

from __future__ import annotations

from pydantic import Field

from cutray.config.base import Settings


class RefinerSettings(Settings):
    """One training of the edge refiner."""

    steps: int = Field(4000, ge=1, description="Steps, over which the rate rises and falls to zero.")
    batch_size: int = Field(8, ge=1, description="Crops per step.")
    crop_px: int = Field(192, ge=64, multiple_of=16, description="Side of a crop, in pixels.")
    lr: float = Field(2e-3, gt=0, le=1, description="Highest learning rate, of AdamW.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay, of AdamW.")
    warmup_share: float = Field(0.03, ge=0, lt=1, description="Share of all steps in which the rate rises.")
    clip_norm: float = Field(1.0, gt=0, description="Longest gradient; longer ones are scaled down.")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="Decay of the averaged weights, which are what is kept.")
    seed: int = Field(0, ge=0, description="Number that every random choice follows from.")
    threads: int = Field(0, ge=0, description="Threads of the network; 0 means all processors.")
    loaders: int = Field(1, ge=1, description="Threads that make crops ahead.")
    report_every_steps: int = Field(200, ge=1, description="Steps between reports.")
