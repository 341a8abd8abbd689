"""Settings of the batch job."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cutray.config.base import Settings


class BatchSettings(Settings):
    """How a batch reads and writes, is spread over a machine or a Ray cluster, and when it counts as failed."""

    sink: Literal["auto", "files", "parquet", "webdataset"] = Field(
        "auto", description="One file per result, or shards of many; auto: parquet if DST ends in .parquet, else files."
    )
    photos_per_shard: int = Field(128, ge=1, le=65536, description="Most photos whose results share one shard.")
    image_column: str | None = Field(
        None, description="Column of the photos' bytes in a Parquet source, or their ending in a WebDataset."
    )
    key_column: str | None = Field(None, description="Column of the photos' names in a Parquet source.")

    address: str | None = Field(
        None, description="Ray cluster to join (auto, or HOST:PORT); without it the job runs on this machine alone."
    )
    actors: int = Field(0, ge=0, description="Processes that cut out; 0 means as many as the processors allow.")
    cpus_per_actor: float = Field(
        4.0, gt=0, description="Processors that one process takes; on a smaller machine, all that are there."
    )
    gpus_per_actor: float = Field(0.0, ge=0, description="GPUs that one process takes; 0.5 lets two share one.")
    photos_per_actor: int = Field(
        0, ge=0, le=256, description="Photos that one process has in work at a time; 0 means one more than processors."
    )
    photos_per_task: int = Field(16, ge=1, le=4096, description="Photos handed out, and reported back, at a time.")
    max_failures: str = Field(
        "0",
        pattern=r"^\d+(\.\d+)?%?$",
        description="Failed photos, as a number or percentage, up to which the job still counts as done.",
    )
    max_crashes: int = Field(3, ge=1, description="Times a photo may take its process down before it is given up.")
    no_progress_timeout_s: float = Field(
        900.0, gt=0, description="Seconds without any result after which the job stops with an error."
    )
