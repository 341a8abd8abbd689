"""What is known of champion and challenger: counts, times and overlaps, small enough to be kept as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from serve_apps.rollout.records import Observation, Role

# Times are counted in bins that are 5 % wide, from 1 ms on, so that a percentile is right within that.
_BIN = 1.05
_MOST_BINS = 400


@dataclass(slots=True)
class Side:
    """One of the two models."""

    answers: int = 0
    no_subject: int = 0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, spent_ms: float, found: bool | None) -> None:
        """Count an answer."""
        self.answers += 1
        self.no_subject += found is False
        self.bins[min(_MOST_BINS, max(0, math.ceil(math.log(max(spent_ms, 1.0), _BIN))))] += 1

    def percentile_ms(self, share: float) -> float | None:
        """Return the time that a share of the answers stayed below, right within 5 %; None without answers.

        Args:
            share: In (0, 1].
        """
        wanted = math.ceil(share * self.answers)
        for place in sorted(self.bins):
            wanted -= self.bins[place]
            if wanted <= 0:
                return float(_BIN**place)
        return None

    @property
    def no_subject_share(self) -> float:
        """Share of the photos in which it found nothing, in [0, 1]."""
        return self.no_subject / self.answers if self.answers else 0.0


@dataclass(slots=True)
class Figures:
    """Everything that the rules judge by.

    Attributes:
        champion: Answers of the present model.
        challenger: Answers of the new one.
        errors: The challenger's errors by kind.
        last_error: Message of the latest one.
        dropped: Photos that it was not given, because too many were waiting for it or it had just failed.
        canaries: Photos that the challenger answered.
        compared: Photos that both have worked on.
        iou_sum: Sum of their overlaps.
        confidence_sum: Sum of the changes of their confidence.
        area_sum: Sum of the changes of their area.
    """

    champion: Side = field(default_factory=Side)
    challenger: Side = field(default_factory=Side)
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str = ""
    dropped: int = 0
    canaries: int = 0
    compared: int = 0
    iou_sum: float = 0.0
    confidence_sum: float = 0.0
    area_sum: float = 0.0

    def add(self, seen: Observation) -> None:
        """Take in what came of a photo."""
        if seen.champion_ms is not None:
            self.champion.add(seen.champion_ms, seen.champion_found)
        if seen.challenger_ms is not None:
            self.challenger.add(seen.challenger_ms, seen.challenger_found)
            self.canaries += seen.role is Role.CANARY
        if seen.error:
            self.errors[seen.error] += 1
            self.last_error = seen.error_text
        self.dropped += seen.dropped
        if seen.iou is not None:
            self.compared += 1
            self.iou_sum += seen.iou
            self.confidence_sum += seen.confidence_change or 0.0
            self.area_sum += seen.area_change or 0.0

    @property
    def failed(self) -> int:
        """Photos that the challenger failed on."""
        return self.errors.total()

    @property
    def tried(self) -> int:
        """Photos that the challenger was given."""
        return self.failed + self.challenger.answers

    @property
    def error_rate(self) -> float:
        """Share of the challenger's photos that it failed on, in [0, 1]."""
        return self.failed / self.tried if self.tried else 0.0

    @property
    def mean_iou(self) -> float | None:
        """Mean overlap of the masks, in [0, 1]; None without a comparison."""
        return self.iou_sum / self.compared if self.compared else None

    def summary(self) -> dict[str, float]:
        """Return the figures by name; those that are not known are left out."""
        known: dict[str, float | None] = {
            "champion_answers": self.champion.answers,
            "challenger_answers": self.challenger.answers,
            "canary_answers": self.canaries,
            "errors": self.failed,
            **{f"errors_{kind}": number for kind, number in sorted(self.errors.items())},
            "error_rate": self.error_rate,
            "dropped": self.dropped,
            "champion_p50_ms": self.champion.percentile_ms(0.5),
            "champion_p99_ms": self.champion.percentile_ms(0.99),
            "challenger_p50_ms": self.challenger.percentile_ms(0.5),
            "challenger_p99_ms": self.challenger.percentile_ms(0.99),
            "champion_no_subject": self.champion.no_subject_share,
            "challenger_no_subject": self.challenger.no_subject_share,
            "compared": self.compared,
            "mean_iou": self.mean_iou,
            "mean_confidence_change": self.confidence_sum / self.compared if self.compared else None,
            "mean_area_change": self.area_sum / self.compared if self.compared else None,
        }
        return {name: round(value, 4) for name, value in known.items() if value is not None}

    def to_json(self) -> bytes:
        """Return them as JSON."""
        sides = {
            name: {"answers": side.answers, "no_subject": side.no_subject, "bins": sorted(side.bins.items())}
            for name, side in (("champion", self.champion), ("challenger", self.challenger))
        }
        names = ("last_error", "dropped", "canaries", "compared", "iou_sum", "confidence_sum", "area_sum")
        return json.dumps({**sides, "errors": self.errors, **{name: getattr(self, name) for name in names}}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = json.loads(text)
        for name in ("champion", "challenger"):
            side = values[name]
            values[name] = Side(side["answers"], side["no_subject"], Counter(dict(map(tuple, side["bins"]))))
        values["errors"] = Counter(values["errors"])
        return cls(**values)
