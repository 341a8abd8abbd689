"""What the endpoint is configured with, and what its processes tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from cutray.config import MIB, DriftSettings, EngineSettings, JobSettings, PhotoSettings, Settings
from cutray.errors import ChecksumError
from cutray.models.weights import Weights
from cutray.removal import RemovalReport
from cutray.segmenter import NetworkInfo
from serve_apps.rollout.records import Ticket

BODY_VARIABLE = "CUTRAY_MAX_BODY_BYTES"
BATCH_VARIABLE = "CUTRAY_MAX_BATCH_BODY_BYTES"
JOB_VARIABLE = "CUTRAY_MAX_JOB_BODY_BYTES"
ORIGINS_VARIABLE = "CUTRAY_CORS_ORIGINS"


class CutOptions(PhotoSettings):
    """What a client may choose for one photo: the same names as on the command line."""


class Limits(Settings):
    """What one request, one key and the whole endpoint may cost."""

    max_body_bytes: int = Field(32 * MIB, ge=1024, description="Largest body of one request, in bytes.")
    max_batch_body_bytes: int = Field(80 * MIB, ge=1024, description="Largest body of a batch, in bytes.")
    max_tensor_json_bytes: int = Field(
        8 * MIB,
        ge=1024,
        description="Largest body of /v2 with tensors as JSON, which takes up to twelve times its size in memory; raw "
        "bytes behind the JSON have max_body_bytes.",
    )
    max_image_bytes: int = Field(32 * MIB, ge=1, description="Largest photo, in bytes.")
    max_megapixels: float = Field(50.0, gt=0, description="Largest photo, in millions of pixels.")
    max_images: int = Field(10, ge=1, le=100, description="Most photos of a batch.")
    max_in_flight: int = Field(16, ge=1, description="Most photos that one Ingress has under way; more get 429.")
    upload_timeout_s: float = Field(20.0, gt=0, description="Longest time for the body to arrive.")
    deadline_s: float = Field(30.0, gt=0, description="Longest time for the work on a request.")
    retry_after_s: int = Field(2, ge=1, description="What a client that was refused is told to wait.")
    max_edits_per_key: int = Field(
        12, ge=1, description="Most edits that a Cutter keeps for one API key; its least recently used one makes room."
    )
    max_edit_bytes: int = Field(
        768 * MIB,
        ge=1,
        description="Most memory that a Cutter keeps for edits, in bytes: the file, and 8 per pixel, 12 with "
        "transparency, 6 more in 16 bits.",
    )
    edit_ttl_s: float = Field(600.0, gt=0, description="How long an edit is kept after it was last used.")
    requests_per_minute: int = Field(0, ge=0, description="Most requests per API key and minute; 0 means any number.")


class AppArgs(Settings):
    """The builder's arguments: all that is not a matter of replicas or timeouts of Serve itself."""

    limits: Limits = Field(default_factory=Limits, description="What requests may cost.")
    engine: EngineSettings = Field(default_factory=EngineSettings, description="Engine, device, precision, threads.")
    api_keys: dict[str, str] = Field(
        default_factory=dict, description="Name and SHA-256 (hex) of each API key; without any, none is needed."
    )
    admin_keys: list[str] = Field(
        default_factory=list,
        description="Names of the API keys that may roll out models; without any, there are no roll-outs.",
    )
    cors_origins: list[str] = Field(default_factory=list, description="Web origins that may call; none by default.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Ray's metrics port on each node; 0 hides /metrics.")
    jobs: JobSettings = Field(default_factory=JobSettings, description="Asynchronous jobs; without a folder, none.")
    drift: DriftSettings = Field(
        default_factory=DriftSettings, description="Comparison with the training data, and samples to label."
    )
    page: bool = Field(True, description="Serve the page at /.")

    @property
    def largest_job_body(self) -> int:
        """Largest body of POST /jobs, in bytes; where no jobs are taken, that of any other request."""
        return self.jobs.max_body_bytes if self.jobs.folder else self.limits.max_body_bytes

    models: list[str] = Field(
        default_factory=list,
        description="Models that clients may choose among, the default first; without any, the Segmenter's alone.",
    )


class ModelConfig(Settings):
    """The Segmenter's user_config: changes of these are made in place, without a restart."""

    model: str = Field(EngineSettings.model_fields["model"].default, description="Model name or path of the weights.")
    sha256: str = Field(
        "",
        description="Hash that the weights must have; `cutray serve` fills it in, so that a file, or its description, "
        "that was replaced under its name counts as another model.",
    )
    max_batch_size: int = Field(1, ge=1, le=256, description="Most photos in one forward pass.")
    batch_wait_s: float = Field(0.0, ge=0, le=1, description="How long a batch waits for more photos.")

    def check(self, weights: Weights) -> None:
        """Make sure that weights are those that are meant.

        Raises:
            ChecksumError: They have another hash.
        """
        if self.sha256 and self.sha256 not in (weights.sha256, weights.identity):
            raise ChecksumError(
                got=f"{weights.path} has sha256 {weights.identity}",
                allowed=f"{self.sha256} is configured",
                fix="copy the right file there, or correct the configuration",
            )


def body_limits() -> tuple[int, int, int]:
    """Return the largest body of a request, a batch and a job, from the environment of the cluster or the defaults."""
    fields = Limits.model_fields
    single = os.environ.get(BODY_VARIABLE, fields["max_body_bytes"].default)
    batch = os.environ.get(BATCH_VARIABLE, fields["max_batch_body_bytes"].default)
    job = os.environ.get(JOB_VARIABLE, single)
    return int(single), int(batch), int(job)


def cors_origins() -> tuple[str, ...]:
    """Return the web origins that may call, from the environment of the cluster; none by default."""
    return tuple(os.environ.get(ORIGINS_VARIABLE, "").split())


@dataclass(frozen=True, slots=True)
class CutRequest:
    """One photo on its way to a Cutter.

    Attributes:
        data: The encoded photo.
        options: Fields of ``CutOptions``, already checked.
        backdrop: An encoded picture to lay the subject on, or None.
        seconds_left: Time until the caller stops waiting.
        strokes: An encoded picture of strokes, or None.
        as_zip: Whether colours and alpha are wanted as two files in a zip.
        owner: Name of the API key, for an edit.
        edit_id: The edit that is meant, or empty for a new one.
        revision: The revision that the client knows of the edit, or None.
        max_side_px: Longest side of an alpha channel that is to be shrunk, or None.
        model: Name of the model, or empty for the default one.
        trace: ``traceparent`` of the request's span, or empty without traces.
        ticket: Its part in a roll-out, or None.
    """

    data: bytes
    options: dict[str, object]
    backdrop: bytes | None = None
    seconds_left: float = 30.0
    strokes: bytes | None = None
    as_zip: bool = False
    owner: str = ""
    edit_id: str = ""
    revision: int | None = None
    max_side_px: int | None = None
    model: str = ""
    trace: str = ""
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True)
class CutReply:
    """One result on its way back.

    Attributes:
        data: The encoded result.
        format: PNG, WEBP, AVIF, JPEG, TIFF or ZIP.
        report: What is known about it.
        width_px: Width of the result, 0 where nobody needs to know.
        height_px: Height of the result, 0 likewise.
        by_challenger: Whether it is from the new model of a roll-out.
    """

    data: bytes
    format: str
    report: RemovalReport
    width_px: int = 0
    height_px: int = 0
    by_challenger: bool = False


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Tensors on their way to a Cutter, which reads them: a long text would hold up an Ingress.

    Attributes:
        data: The body, JSON or JSON followed by raw bytes.
        header_length: Bytes of JSON in front of raw ones; None if all of it is JSON.
        model: Name of the model, or empty for the default one.
        name: What the client calls it.
        seconds_left: Time until the caller stops waiting.
        trace: ``traceparent`` of the request's span, or empty without traces.
    """

    data: bytes
    header_length: int | None
    model: str
    name: str
    seconds_left: float = 30.0
    trace: str = ""


@dataclass(frozen=True, slots=True)
class InferReply:
    """The network's answer on its way back: a body, and where its JSON ends as in the request."""

    data: bytes
    header_length: int | None


@dataclass(frozen=True, slots=True)
class EditReply:
    """How an edit stands.

    Attributes:
        edit_id: Its id.
        revision: Counts the changes of its alpha channel.
        box: Left, top, right, bottom of what ``data`` shows, in pixels of the photo.
        report: What is known about the mask.
        data: PNG of the alpha channel in ``box``, 8 bits grey; empty if nothing is to be shown.
    """

    edit_id: str
    revision: int
    box: tuple[int, int, int, int]
    report: RemovalReport
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """Why a photo has no result, as a value: an exception would fill the replicas' logs with stack traces.

    Attributes:
        code: One of ``errors.CODES``.
        message: For people.
        of_request: Whether it holds for every photo of the request.
    """

    code: str
    message: str
    of_request: bool = False


@dataclass(frozen=True, slots=True)
class Probs:
    """The network's answer.

    Attributes:
        maps: (N, S, S) float32 in [0, 1].
        network: What made them.
        identity: Of that network, from ``Weights``; a file may be swapped under its name.
        forward_ms: How long the network took.
    """

    maps: np.ndarray
    network: NetworkInfo
    identity: str
    forward_ms: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a Segmenter says about itself."""

    state: Literal["ready", "loading"]
    name: str = ""
    sha256: str = ""
    identity: str = ""
    license: str = ""
    architecture: str = ""
    origin: str = ""
    input_size_px: int = 0
    scale: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size_bytes: int = 0
    engine: str = ""
    device: str = ""
    precision: str = ""
    threads: int = 0
    engine_reason: str = ""
    warm_up_ms: float = 0.0
    swap_error: str | None = None
