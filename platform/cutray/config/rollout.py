"""The rules by which a new model takes over from the present one, or is taken out again."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from cutray.config.base import Settings
from cutray.config.metadata import Setting

_JUDGES = Setting(affects_result=False)


class RolloutRules(Settings):
    """When a challenger is promoted, and when it is rolled back."""

    model_config = ConfigDict(allow_inf_nan=False)

    title: ClassVar[str] = "Roll-out rules"

    min_requests: Annotated[int, _JUDGES] = Field(
        200, ge=1, description="Answers of the challenger that are needed before anything but errors is judged."
    )
    min_duration_s: Annotated[float, _JUDGES] = Field(
        600.0, ge=0, description="Shortest time that the challenger is watched before it is promoted."
    )
    max_duration_s: Annotated[float, _JUDGES] = Field(
        86_400.0, gt=0, description="After this time a challenger that was not promoted is rolled back."
    )
    max_error_rate: Annotated[float, _JUDGES] = Field(
        0.01, ge=0, le=1, description="Largest share of the challenger's photos that may fail or take too long."
    )
    min_errors: Annotated[int, _JUDGES] = Field(
        3, ge=1, description="Errors that are needed before their share counts, so that a single one decides nothing."
    )
    max_p99_ratio: Annotated[float, _JUDGES] = Field(
        1.5, gt=0, description="Most that the challenger's p99 of a photo's network time may be of the champion's."
    )
    max_p99_ms: Annotated[float | None, _JUDGES] = Field(
        None, gt=0, description="Largest p99 of the challenger's network time per photo, whatever the champion's is."
    )
    min_mean_iou: Annotated[float, _JUDGES] = Field(
        0.8, ge=0, le=1, description="Smallest mean overlap (IoU) of the challenger's masks with the champion's."
    )
    max_no_subject_rise: Annotated[float, _JUDGES] = Field(
        0.05, ge=0, le=1, description="How far its share of photos without a subject may be above the champion's."
    )
    max_answer_s: Annotated[float, _JUDGES] = Field(
        10.0,
        gt=0,
        description="How long the challenger may take for a photo; then the champion answers. In a canary at most a "
        "third of the time that the request has left.",
    )
    max_load_s: Annotated[float, _JUDGES] = Field(
        300.0, gt=0, description="How long the challenger may take to be loaded."
    )
    auto_promote: Annotated[bool, _JUDGES] = Field(
        True, description="Promote by itself; else it waits for `cutray rollout promote`."
    )

    @model_validator(mode="after")
    def _times_go_together(self) -> Self:
        """Refuse a roll-out that could only end in a rollback."""
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError(
                f"min_duration_s = {self.min_duration_s:g} is not below max_duration_s = {self.max_duration_s:g}"
            )
        return self
