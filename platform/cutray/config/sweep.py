"""Settings of a search for good settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cutray.config.base import Settings


class SchedulerSettings(Settings):
    """When a training that does badly is ended before its time; without training every trial sees all photos."""

    kind: Literal["asha", "median", "none"] = Field(
        "asha", description="Keep the best at each halving (asha), those above the median of the others, or all."
    )
    grace_epochs: int = Field(1, ge=1, description="Epochs that every trial is given.")
    reduction: float = Field(2.0, gt=1, description="One in so many goes on, for asha.")


class SweepSettings(Settings):
    """A search for good settings: which may vary, within what, judged by what, at what cost."""

    job: Literal["train", "remove"] = Field(
        "train", description="Train a network in each trial, or cut out photos with known masks without any training."
    )
    preset: str | None = Field(None, description="Preset of `cutray train` that every trial begins with.")
    settings: dict[str, Any] = Field({}, description="Settings of every trial that differ from preset and defaults.")
    search: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="What varies: path of a setting and its choice, uniform, loguniform or int, with `when` if needed.",
    )
    data: tuple[str, ...] = Field(
        (), description="Folders of photos and masks; the trials' `data.folders` in training."
    )
    photos: int = Field(0, ge=0, description="Most photos taken from each folder, evenly spaced, without training.")
    metric: str = Field("iou", description="Score that decides.")
    mode: Literal["max", "min"] = Field("max", description="Whether more or less of it is better.")
    searcher: Literal["optuna", "random"] = Field("optuna", description="How the next values are chosen.")
    scheduler: SchedulerSettings = SchedulerSettings()
    trials: int = Field(16, ge=1, le=10_000, description="Trials, that with the settings left as they are included.")
    concurrent: int = Field(0, ge=0, description="Trials at a time; 0 means as many as fit.")
    cpus_per_trial: float = Field(1.0, gt=0, description="Processors of a trial that does not train.")
    max_minutes: float = Field(0.0, ge=0, description="End the search after that many minutes; 0 never.")
    seed: int = Field(0, ge=0, description="Number that the choice of values follows from.")
    name: str = Field("", pattern=r"^[\w.-]*$", description="Name of the sweep; empty makes one from file and time.")
    save_dir: str = Field("runs", description="Folder, on a cluster a shared one, in which each sweep has its own.")
    address: str | None = Field(None, description="Ray cluster to join (auto, or HOST:PORT); without it, this machine.")
    tracking_uri: str = Field("", description="MLflow server or store; empty: MLFLOW_TRACKING_URI; 'none': none.")
    experiment: str = Field("cutray", description="MLflow experiment.")
