"""Settings of a hyperparameter search."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cutray.config.base import Settings
from cutray.config.metadata import Setting
from cutray.config.paths import FilePath
from cutray.config.shared import RunSettings

_OPTION = Setting(option=True)
_RESOURCES = Setting(affects_result=False)


class SchedulerSettings(Settings):
    """Early stopping of trials; a search without training does not stop trials early."""

    title: ClassVar[str] = "Trial scheduler"

    kind: Literal["asha", "median", "none"] = Field(
        "asha", description="Successive halving (asha), stopping below the median of the other trials, or none."
    )
    grace_epochs: int = Field(1, ge=1, description="Epochs before a trial may be stopped.")
    reduction: float = Field(2.0, gt=1, description="Reduction factor of asha: one trial in so many continues.")


class SweepSettings(RunSettings):
    """A hyperparameter search: what varies, within which bounds, by which score, at what cost."""

    title: ClassVar[str] = "Search"

    job: Literal["train", "remove"] = Field(
        "train", description="Train a network in each trial, or score masks on photos with known masks."
    )
    preset: str | None = Field(None, description="Preset of `cutray train` that every trial starts from.")
    settings: dict[str, Any] = Field({}, description="Settings of every trial that differ from preset and defaults.")
    search: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="Search space: path of a setting, and its choice, uniform, loguniform or int, perhaps with `when`.",
    )
    data: Annotated[tuple[str, ...], _OPTION, FilePath] = Field(
        (), description="Folder with images/ and masks/; sets the trials' `data.folders` in training."
    )
    photos: int = Field(
        0,
        ge=0,
        description="Most photos of each folder, evenly spaced, in a search without training; 0 means all.",
    )
    metric: str = Field("iou", description="Score to optimise.")
    mode: Literal["max", "min"] = Field("max", description="Whether a higher or a lower score is better.")
    searcher: Annotated[Literal["optuna", "random"], _OPTION] = Field(
        "optuna", description="Search algorithm: Optuna's TPE, or random search."
    )
    scheduler: SchedulerSettings = SchedulerSettings()
    trials: Annotated[int, _OPTION] = Field(
        16, ge=1, le=10_000, description="Number of trials; the first one keeps the settings as they are."
    )
    concurrent: Annotated[int, Setting(affects_result=False, option=True)] = Field(
        0, ge=0, description="Trials at a time; 0 means as many as fit."
    )
    cpus_per_trial: Annotated[float, _RESOURCES] = Field(1.0, gt=0, description="CPUs of a trial that does not train.")
    max_minutes: Annotated[float, _OPTION] = Field(
        0.0, ge=0, description="Minutes after which the search ends; 0 never."
    )
