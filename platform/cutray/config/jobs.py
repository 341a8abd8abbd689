"""Settings of the endpoint's asynchronous jobs."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cutray.config.base import Settings
from cutray.config.metadata import Setting
from cutray.config.paths import FilePath
from cutray.config.remover import MIB

_KEPT = Setting(affects_result=False)
_GIB = 1024 * MIB


class JobSettings(Settings):
    """Where jobs are kept, how many an API key may have, and whom they may contact."""

    title: ClassVar[str] = "Jobs of the endpoint"

    folder: Annotated[str, FilePath, _KEPT] = Field(
        "", description="Folder of photos, results and state, shared by all machines; empty: no jobs are taken."
    )
    database: Annotated[str, _KEPT] = Field(
        "", description="Address of a PostgreSQL database for the state; empty: jobs.sqlite in the folder."
    )
    max_photos: Annotated[int, _KEPT] = Field(10_000, ge=1, le=100_000, description="Most photos of a job.")
    max_body_bytes: Annotated[int, _KEPT] = Field(
        256 * MIB, ge=1024, description="Largest body of POST /jobs, in bytes; the proxy holds it in memory."
    )
    max_job_bytes: Annotated[int, _KEPT] = Field(
        10 * _GIB, ge=1024, description="Most bytes of a job's photos, unpacked or fetched."
    )
    max_uploads: Annotated[int, _KEPT] = Field(4, ge=1, description="Most jobs that one Ingress receives at a time.")
    upload_timeout_s: Annotated[float, _KEPT] = Field(
        45.0,
        gt=0,
        description="Longest time for the body of POST /jobs to arrive; 10 s or more below request_timeout_s of Serve, "
        "for it is written down then.",
    )
    jobs_per_key: Annotated[int, _KEPT] = Field(100, ge=1, description="Most jobs of an API key that have not ended.")
    photos_per_key: Annotated[int, _KEPT] = Field(
        50_000, ge=1, description="Most photos of an API key in jobs that have not ended."
    )
    bytes_per_key: Annotated[int, _KEPT] = Field(
        50 * _GIB, ge=1024, description="Most bytes of photos and results that are kept for an API key."
    )
    keep_s: Annotated[float, _KEPT] = Field(
        86_400.0, gt=0, description="How long results and status are kept after a job has ended."
    )
    max_running: Annotated[int, _KEPT] = Field(1, ge=1, le=64, description="Most jobs that run at a time.")
    max_attempts: Annotated[int, _KEPT] = Field(
        5,
        ge=1,
        description="How often the process of a job may end without a new photo before the job counts as failed.",
    )
    actors: Annotated[int, _KEPT] = Field(1, ge=1, description="Ray actors that work on one job.")
    cpus_per_actor: Annotated[float, _KEPT] = Field(1.0, gt=0, description="CPUs of one actor.")
    gpus_per_actor: Annotated[float, _KEPT] = Field(0.0, ge=0, description="GPUs of one actor.")
    niceness: Annotated[int, _KEPT] = Field(
        10, ge=0, le=19, description="How much the actors give way to live requests: 0 not at all, 19 most."
    )
    sources: Annotated[tuple[str, ...], _KEPT] = Field(
        (), description="Beginnings of addresses (https://, s3://) that photos may be fetched from."
    )
    targets: Annotated[tuple[str, ...], _KEPT] = Field(
        (), description="Beginnings of addresses (s3://) that results may be written to."
    )
    webhooks: Annotated[tuple[str, ...], _KEPT] = Field(
        (), description="Beginnings of addresses (https://) that may be told of a job's end."
    )
    private_addresses: Annotated[bool, _KEPT] = Field(
        False, description="Let sources and webhooks be on private, loopback and link-local addresses."
    )
    fetch_timeout_s: Annotated[float, _KEPT] = Field(30.0, gt=0, description="Longest time to fetch one photo.")
    webhook_timeout_s: Annotated[float, _KEPT] = Field(
        10.0, gt=0, description="Longest time for a receiver of a webhook to answer."
    )
    webhook_attempts: Annotated[int, _KEPT] = Field(
        12, ge=1, le=50, description="How often a webhook is sent before it is given up."
    )
