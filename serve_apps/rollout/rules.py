"""Decides from figures and rules alone what becomes of a challenger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cutray.config import RolloutRules
from serve_apps.rollout.figures import Figures


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and why.

    Attributes:
        action: wait, promote or roll back.
        reason: The figures that decided it, in words.
    """

    action: Literal["wait", "promote", "roll_back"]
    reason: str


def judge(rules: RolloutRules, figures: Figures, running_s: float) -> Verdict:
    """Decide what becomes of a challenger.

    Errors are judged from the ``min_errors``-th on, everything else once there are ``min_requests`` answers of each
    model, and as many comparisons. A rule whose figure is not known is not applied: a canary alone compares no masks.

    Args:
        rules: What it has to keep.
        figures: What is known.
        running_s: Seconds since it was loaded.
    """
    if figures.failed >= rules.min_errors and figures.error_rate > rules.max_error_rate:
        kinds = ", ".join(f"{number} {kind}" for kind, number in figures.errors.most_common())
        return Verdict(
            "roll_back",
            f"{figures.failed} of {figures.tried} photos failed ({kinds}), allowed are {rules.max_error_rate:.2%}; "
            f"the last one: {figures.last_error}",
        )
    seen = _fewest(figures)
    enough = seen >= rules.min_requests
    if enough and (broken := _broken(rules, figures)):
        return Verdict("roll_back", "; ".join(broken))
    if running_s >= rules.max_duration_s:
        return Verdict(
            "roll_back",
            f"not promoted within {rules.max_duration_s:g} s: {seen} answers of {rules.min_requests} that are needed",
        )
    if not enough:
        return Verdict("wait", f"{seen} answers of {rules.min_requests} that are needed")
    if running_s < rules.min_duration_s:
        return Verdict("wait", f"{running_s:.0f} s of {rules.min_duration_s:g} s that it is watched")
    if figures.error_rate > rules.max_error_rate:
        return Verdict("wait", f"{figures.error_rate:.2%} of the photos failed, allowed are {rules.max_error_rate:.2%}")
    if not rules.auto_promote:
        return Verdict("wait", "all rules are kept; it waits for `cutray rollout promote`")
    return Verdict("promote", f"all rules are kept after {figures.challenger.answers} answers and {running_s:.0f} s")


def _fewest(figures: Figures) -> int:
    """Return how many photos the figures rest on: the fewest of answers and comparisons, if there are any of a kind."""
    others = [number for number in (figures.champion.answers, figures.compared) if number]
    return min([figures.challenger.answers, *others])


def _broken(rules: RolloutRules, figures: Figures) -> list[str]:
    """Return what breaks a rule, each in words."""
    broken = []
    champion, challenger = figures.champion, figures.challenger
    theirs, ours = champion.percentile_ms(0.99), challenger.percentile_ms(0.99)
    if ours is not None and rules.max_p99_ms is not None and ours > rules.max_p99_ms:
        broken.append(f"p99 is {ours:.0f} ms, allowed are {rules.max_p99_ms:g} ms")
    if ours is not None and theirs is not None and ours > theirs * rules.max_p99_ratio:
        times = f"{ours / theirs:.2f} times the champion's, allowed are {rules.max_p99_ratio:g}"
        broken.append(f"p99 is {ours:.0f} ms, {times}")
    rise = challenger.no_subject_share - champion.no_subject_share
    if champion.answers and rise > rules.max_no_subject_rise:
        broken.append(
            f"{challenger.no_subject_share:.1%} of the photos have no subject, {rise:.1%} more than with the champion, "
            f"allowed are {rules.max_no_subject_rise:.1%}"
        )
    if figures.mean_iou is not None and figures.mean_iou < rules.min_mean_iou:
        broken.append(f"the masks' mean IoU is {figures.mean_iou:.3f}, allowed is {rules.min_mean_iou:g} or more")
    return broken
