"""Settings that several jobs share: where they run, where they are tracked, and the optimiser."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cutray.config.base import Settings
from cutray.config.metadata import Setting
from cutray.config.paths import FilePath, StoreAddress

_PLACE = Setting(affects_result=False, option=True)
_TRACKING = Setting(affects_result=False)

LearningRate = Annotated[float, Field(gt=0, le=1, description="Highest learning rate (AdamW).")]
WarmupShare = Annotated[
    float, Field(ge=0, lt=1, description="Share of all steps for the linear learning rate warm-up.")
]
EmaDecay = Annotated[
    float,
    Field(
        ge=0, lt=1, description="Decay of the exponential moving average (EMA) of the weights, which is what is kept."
    ),
]


class ClusterSettings(Settings):
    """Which Ray cluster a job runs on."""

    address: Annotated[str | None, _PLACE] = Field(
        None,
        description="Ray cluster to join (auto, HOST:PORT, or local); without it RAY_ADDRESS, else this machine.",
    )


class RunSettings(ClusterSettings):
    """Name, folder and seed of a run, and where it is tracked."""

    name: Annotated[
        str, Setting(affects_result=False, option=True, allowed="letters, digits, dots, dashes and underscores")
    ] = Field(
        "", pattern=r"^[\w.-]*$", description="Name of the run; empty makes one from the preset or file and the time."
    )
    save_dir: Annotated[str, _PLACE, FilePath] = Field(
        "runs", description="Folder in which each run has its own; on a cluster, a shared one."
    )
    seed: Annotated[int, Setting(option=True)] = Field(0, ge=0, description="Seed of every random choice.")
    tracking_uri: Annotated[str, _TRACKING, StoreAddress] = Field(
        "", description="MLflow server or store; empty: MLFLOW_TRACKING_URI; 'none': no tracking."
    )
    experiment: Annotated[str, _TRACKING] = Field("cutray", description="MLflow experiment.")


class AdamWSettings(Settings):
    """The AdamW optimiser, its learning rate schedule and the averaging of weights."""

    lr: LearningRate = 1e-3
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay (AdamW).")
    warmup_share: WarmupShare = 0.05
    clip_norm: float = Field(1.0, gt=0, description="Maximum gradient norm (gradient clipping).")
    ema_decay: EmaDecay = 0.999
