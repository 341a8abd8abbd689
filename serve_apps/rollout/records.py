"""What is known of a roll-out, and what its parts tell each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from cutray.config import RolloutRules, Settings

PREFIX = "cutray-rollout-"


def name_of(rollout_id: str) -> str:
    """Return the name of the application of Serve that a challenger is."""
    return f"{PREFIX}{rollout_id}"


class RolloutState(StrEnum):
    """Where a roll-out stands."""

    LOADING = "loading"
    RUNNING = "running"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


ACTIVE = frozenset({RolloutState.LOADING, RolloutState.RUNNING, RolloutState.PROMOTING})


class Role(StrEnum):
    """Which part a photo plays in a roll-out."""

    CHAMPION = "champion"  # the champion answers; its time and verdict are what the challenger is compared with
    SHADOW = "shadow"  # the same, and the challenger works on it as well, without being waited for
    CANARY = "canary"  # the challenger answers


class StartRequest(Settings):
    """The body of POST /rollout."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: str = Field(
        max_length=1024,
        pattern=r"^[^\x00-\x1f]+$",
        description="The challenger: a name, a file, or models:/NAME@ALIAS.",
    )
    challenges: str = Field(
        "",
        max_length=256,
        description="The served model that it challenges; by default the one of its name, else the default model.",
    )
    shadow: float = Field(0.0, ge=0, le=1, description="Share of the requests that the challenger works on unseen.")
    canary: float = Field(0.0, ge=0, le=1, description="Share of the requests that the challenger answers.")
    replicas: int = Field(1, ge=1, le=64, description="Replicas of the challenger.")
    alias: str = Field(
        "champion", pattern=r"^[\w-]{1,64}$", description="Alias in the registry that it gets with its promotion."
    )
    rules: RolloutRules = Field(default_factory=RolloutRules, description="When it is promoted, and when not.")

    @model_validator(mode="after")
    def _shares_go_together(self) -> Self:
        """Refuse a challenger without work, or with more than there is."""
        if not 0 < self.shadow + self.canary <= 1:
            raise ValueError(
                f"shadow = {self.shadow:g} and canary = {self.canary:g}: together allowed is above 0 and at most 1"
            )
        return self


@dataclass(frozen=True, slots=True)
class Plan:
    """What an Ingress needs to know while the challenger takes part.

    Attributes:
        rollout_id: Names the roll-out.
        model: The served model that is challenged; empty where only one is served.
        shadow: Share of the requests, in [0, 1].
        canary: Share of the requests, in [0, 1].
        limit_s: How long the challenger may take for a photo.
    """

    rollout_id: str
    model: str
    shadow: float
    canary: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request carries through a roll-out.

    Attributes:
        rollout_id: Names the roll-out.
        role: Its part.
        limit_s: How long the challenger may take.
    """

    rollout_id: str
    role: Role
    limit_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of one photo.

    Attributes:
        rollout_id: Names the roll-out.
        role: The photo's part.
        champion_ms: Time of the champion's network, or None where it was not asked.
        challenger_ms: Time of the challenger's, or None where it gave no answer.
        champion_found: Whether the champion found a subject, or None.
        challenger_found: Whether the challenger did, or None.
        error: Kind of the challenger's error: timeout, lost, full or failed; empty without one.
        error_text: Its message.
        dropped: Whether the challenger was left out, because too many were waiting for it or it had just failed.
        iou: Overlap of the two masks, in [0, 1], or None.
        confidence_change: The challenger's confidence less the champion's, or None.
        area_change: Its share of the frame less the champion's, or None.
    """

    rollout_id: str
    role: Role
    champion_ms: float | None = None
    challenger_ms: float | None = None
    champion_found: bool | None = None
    challenger_found: bool | None = None
    error: str = ""
    error_text: str = ""
    dropped: bool = False
    iou: float | None = None
    confidence_change: float | None = None
    area_change: float | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """A roll-out as it is kept.

    Attributes:
        rollout_id: Names it.
        request: What was asked for.
        model: Address of the challenger, with the version in place of an alias.
        challenges: The served model that is challenged; empty where only one is served.
        state: Where it stands.
        reason: Why it ended so.
        notes: What went wrong beside it.
        sha256: Identity of the challenger's network, once it is loaded.
        started_at: Seconds since 1970.
        running_at: When the challenger was loaded; 0 before.
        ended_at: When it ended; 0 before.
    """

    rollout_id: str
    request: StartRequest
    model: str
    challenges: str
    state: RolloutState = RolloutState.LOADING
    reason: str = ""
    notes: tuple[str, ...] = field(default=())
    sha256: str = ""
    started_at: float = 0.0
    running_at: float = 0.0
    ended_at: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE

    @property
    def plan(self) -> Plan | None:
        """What the Ingresses are told; None unless the challenger takes part."""
        if self.state is not RolloutState.RUNNING:
            return None
        asked = self.request
        return Plan(self.rollout_id, self.challenges, asked.shadow, asked.canary, asked.rules.max_answer_s)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "request": self.request.model_dump(mode="json")}

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(self.to_dict()).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what ``to_json`` wrote."""
        values = json.loads(text)
        values["request"] = StartRequest.model_validate(values["request"])
        values["state"], values["notes"] = RolloutState(values["state"]), tuple(values["notes"])
        return cls(**values)
