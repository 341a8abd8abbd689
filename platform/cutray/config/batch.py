"""Settings of the batch job."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cutray.config.metadata import Setting
from cutray.config.shared import ClusterSettings

# How the work is spread, and when it counts as failed, changes no result.
_SPREAD = Setting(affects_result=False)


class BatchSettings(ClusterSettings):
    """How a batch reads and writes, is spread over a machine or a Ray cluster, and when it counts as failed."""

    title: ClassVar[str] = "Batch"
    every_field_is_option: ClassVar[bool] = True

    sink: Literal["auto", "files", "parquet", "webdataset"] = Field(
        "auto", description="One file per result, or shards of many; auto: parquet if DST ends in .parquet, else files."
    )
    photos_per_shard: Annotated[int, _SPREAD] = Field(128, ge=1, le=65536, description="Most results in one shard.")
    image_column: Annotated[str | None, _SPREAD] = Field(
        None, description="Column of the photos' bytes in a Parquet source, or their ending in a WebDataset."
    )
    key_column: Annotated[str | None, _SPREAD] = Field(
        None, description="Column of the photos' names in a Parquet source."
    )

    actors: Annotated[int, _SPREAD] = Field(
        0,
        ge=0,
        description="Ray actors, or processes where there is no Ray, that remove backgrounds; "
        "0 means as many as the CPUs allow.",
    )
    cpus_per_actor: Annotated[float, _SPREAD] = Field(
        4.0, gt=0, description="CPUs of one actor; on a smaller machine, all that are there."
    )
    gpus_per_actor: Annotated[float, _SPREAD] = Field(
        0.0, ge=0, description="GPUs of one actor; 0.5 lets two actors share one."
    )
    photos_per_actor: Annotated[int, _SPREAD] = Field(
        0, ge=0, le=256, description="Photos that one actor works on at a time; 0 means one more than its CPUs."
    )
    memory_gb: Annotated[float, _SPREAD] = Field(
        0.0,
        ge=0,
        description="Memory in GB that all processes of the batch may hold on each machine, those of a Ray that it "
        "starts included; 0 means half of what is free.",
    )
    niceness: Annotated[int, _SPREAD] = Field(
        0, ge=0, le=19, description="How much the actors give way to other programs: 0 not at all, 19 most."
    )
    photos_per_task: Annotated[int, _SPREAD] = Field(
        16, ge=1, le=4096, description="Photos in one call of an actor; progress is saved after each call."
    )
    max_failures: Annotated[
        str, Setting(affects_result=False, allowed="a number of photos (3) or a percentage of them (1%)")
    ] = Field(
        "0",
        pattern=r"^\d+(\.\d+)?%?$",
        description="Failed photos, as a number or percentage, up to which the job still counts as done.",
    )
    max_crashes: Annotated[int, _SPREAD] = Field(
        3, ge=1, description="Crashes of its process after which a photo is given up."
    )
    no_progress_timeout_s: Annotated[float, _SPREAD] = Field(
        900.0, gt=0, description="Seconds without any result after which the job stops with an error."
    )
