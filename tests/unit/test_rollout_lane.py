"""A challenger in a Cutter that fails, hangs or is overrun costs the users nothing, and is told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from cutray.config import RemoverSettings
from cutray.engines.base import EngineInfo
from cutray.errors import EngineError
from cutray.segmenter import NetworkInfo
from cutray.tta import Prediction
from serve_apps.remover.schemas import Probs
from serve_apps.rollout.comparison import compare, overlap
from serve_apps.rollout.lane import ChallengerLane
from serve_apps.rollout.records import Observation, Plan, Role, Ticket
from serve_apps.rollout.view import RolloutView

SETTINGS = RemoverSettings()
PHOTO = np.zeros((8, 8, 3), np.uint8)


@dataclass
class Network:
    """Predicts the same square for every photo; as slow or broken as it is to be."""

    columns: int
    seconds: float = 0.0
    error: Exception | None = None
    calls: int = 0

    async def predict(self, image: np.ndarray, settings: RemoverSettings) -> tuple[Prediction, list[Probs]]:
        """Return a subject that fills some columns from the left."""
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        probs = np.zeros((20, 20), np.float32)
        probs[:, : self.columns] = 1.0
        answer = Probs(probs[None], NetworkInfo("own", EngineInfo("onnxruntime", "cpu", "fp32")), "", 12.0)
        return Prediction(probs, 20, looks=1), [answer]


def ride(
    challenger: Network,
    role: Role,
    *,
    photos: int = 1,
    limit_s: float = 5.0,
    left_s: float = 30.0,
    until: Callable[[list[Observation]], bool] = bool,
    **room: int,
) -> tuple[list[tuple[Prediction, bool]], list[Observation]]:
    """Have photos predicted beside each other; returns what users got, and what was reported."""
    told: list[Observation] = []

    async def report(seen: Sequence[Observation]) -> None:
        told.extend(seen)

    async def all_of_it() -> list[tuple[Prediction, bool]]:
        lane = ChallengerLane(lambda _: challenger, report, **room)
        champion = Network(columns=10)
        ticket = Ticket("a", role, limit_s)
        results = await asyncio.gather(
            *(lane.predict(ticket, champion, PHOTO, SETTINGS, left_s) for _ in range(photos))
        )
        async with asyncio.timeout(20):
            while not until(told):
                await asyncio.sleep(0.01)
        return [(prediction, by_challenger) for prediction, _, by_challenger in results]

    return asyncio.run(all_of_it()), told


def columns(prediction: Prediction) -> int:
    """Return how wide the subject is."""
    return int(prediction.probs[0].sum())


def test_a_shadow_is_compared_and_never_seen() -> None:
    """The user gets the champion's answer; overlap, changes and times are reported."""
    ((prediction, by_challenger),), told = ride(
        Network(columns=5), Role.SHADOW, until=lambda told: any(one.iou is not None for one in told)
    )
    assert (columns(prediction), by_challenger) == (10, False)
    (champion,) = [one for one in told if one.champion_ms is not None]
    (shadow,) = [one for one in told if one.iou is not None]
    assert (champion.champion_ms, champion.champion_found) == (12.0, True)
    assert (shadow.iou, shadow.area_change, shadow.challenger_found) == (0.5, -0.25, True)


def test_shadows_that_have_no_room_are_left_out() -> None:
    """While the challenger is slow, users do not wait; what does not fit into the queue is counted as dropped."""
    slow = Network(columns=10, seconds=0.3)
    results, told = ride(
        slow, Role.SHADOW, photos=10, most_waiting=2, until=lambda told: sum(one.iou is not None for one in told) >= 2
    )
    assert [by_challenger for _, by_challenger in results] == [False] * 10
    assert sum(one.dropped for one in told) >= 7
    assert slow.calls <= 3


def test_shadows_hold_few_pixels() -> None:
    """A photo that is larger than the room for all of them is left out at once."""
    _, told = ride(Network(columns=10), Role.SHADOW, most_bytes=PHOTO.nbytes - 1, until=lambda told: len(told) == 2)
    assert [one.dropped for one in told] == [False, True]


def test_a_canary_is_answered_by_the_challenger() -> None:
    """The user gets the challenger's answer, and the champion is not asked."""
    ((prediction, by_challenger),), (told,) = ride(Network(columns=5), Role.CANARY)
    assert (columns(prediction), by_challenger) == (5, True)
    assert (told.challenger_ms, told.challenger_found, told.champion_ms) == (12.0, True, None)


@pytest.mark.parametrize(
    ("challenger", "kind", "text"),
    [
        (Network(5, error=EngineError(got="the network's output goes from nan to nan")), "failed", "nan to nan"),
        (Network(5, error=RuntimeError("boom")), "failed", "RuntimeError: boom"),
        (Network(5, seconds=60), "timeout", "no answer in 0.1 s"),
    ],
)
@pytest.mark.parametrize("role", [Role.CANARY, Role.SHADOW])
def test_a_broken_challenger_costs_no_answer(challenger: Network, kind: str, text: str, role: Role) -> None:
    """The champion answers; the kind of the error and its message are reported."""
    ((prediction, by_challenger),), told = ride(
        challenger, role, limit_s=0.1, until=lambda told: any(one.error for one in told)
    )
    assert (columns(prediction), by_challenger) == (10, False)
    (failed,) = [one for one in told if one.error]
    assert (failed.error, failed.role) == (kind, role)
    assert text in failed.error_text


def test_a_canary_leaves_the_champion_time() -> None:
    """A challenger gets at most a third of what the request has left, whatever its own limit is."""
    ((_, by_challenger),), (told,) = ride(Network(5, seconds=60), Role.CANARY, limit_s=60, left_s=0.3)
    assert (by_challenger, told.error_text) == (False, "no answer in 0.1 s")


def test_hanging_canaries_do_not_fill_a_cutter() -> None:
    """Two at a time wait for the challenger; others get the champion's answer at once, and that is counted."""
    hanging = Network(5, seconds=60)
    results, told = ride(hanging, Role.CANARY, photos=8, limit_s=0.2, until=lambda told: len(told) == 8)
    assert [by_challenger for _, by_challenger in results] == [False] * 8
    assert (hanging.calls, sum(one.dropped for one in told)) == (2, 6)


def test_after_three_failures_the_champion_answers_for_a_while() -> None:
    """Nobody else is sent to a challenger that fails again and again; one of a new roll-out is tried at once."""

    async def report(_: Sequence[Observation]) -> None: ...

    async def all_of_it() -> list[int]:
        broken = {name: Network(5, error=RuntimeError("boom")) for name in ("a", "b")}
        lane = ChallengerLane(broken.__getitem__, report)
        for name in ("a",) * 10 + ("b",) * 10:
            await lane.predict(Ticket(name, Role.CANARY, 5.0), Network(10), PHOTO, SETTINGS, 30)
        return [broken["a"].calls, broken["b"].calls]

    assert asyncio.run(all_of_it()) == [3, 3]


def test_outside_of_a_roll_out_nothing_happens() -> None:
    """Without a ticket the champion is asked, and nothing is reported."""

    async def one() -> tuple[Any, ...]:
        async def report(_: Sequence[Observation]) -> None:
            raise AssertionError("nothing is to be reported")

        lane = ChallengerLane(lambda _: Network(5), report)
        return await lane.predict(None, Network(10), PHOTO, SETTINGS, 30)

    prediction, _, by_challenger = asyncio.run(one())
    assert (columns(prediction), by_challenger) == (10, False)


def test_reports_are_kept_while_nobody_takes_them() -> None:
    """A controller that is away for a while gets everything later, in order."""
    told: list[Observation] = []
    refused = 0

    async def report(seen: Sequence[Observation]) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise RuntimeError("away")
        told.extend(seen)

    async def all_of_it() -> None:
        lane = ChallengerLane(lambda _: Network(5), report)
        for limit in (1.0, 2.0, 3.0):
            await lane.predict(Ticket("a", Role.CANARY, limit), Network(10), PHOTO, SETTINGS, 30)
        async with asyncio.timeout(20):
            while len(told) < 3:
                await asyncio.sleep(0.01)

    asyncio.run(all_of_it())
    assert [one.challenger_ms for one in told] == [12.0] * 3


def test_masks_of_different_sizes_are_compared() -> None:
    """The smaller map is enlarged; two without a subject agree, and one alone does not."""
    half, fine = np.zeros((20, 20), np.float32), np.zeros((40, 40), np.float32)
    half[:, :10], fine[:, :20] = 1, 1
    assert overlap(half, fine) == pytest.approx(1.0, abs=0.06)
    assert overlap(half, 1 - half) == 0.0
    nothing = Prediction(np.zeros((20, 20), np.float32), 20, 1)
    assert compare(nothing, nothing, SETTINGS).iou == 1.0
    alone = compare(Prediction(half, 20, 1), nothing, SETTINGS)
    assert (alone.iou, alone.champion_found, alone.challenger_found) == (0.0, True, False)


def tickets(plans: list[Plan | Exception | None], waits_s: float = 1.1) -> list[Ticket | None]:
    """Ask for the ticket of one request again and again, while the controller says something else each time."""
    said = iter(plans)

    async def ask() -> Plan | None:
        plan = next(said)
        if isinstance(plan, Exception):
            raise plan
        return plan

    async def all_of_it() -> list[Ticket | None]:
        view = RolloutView(ask)
        got = [view.ticket("id", "shoes")]
        for _ in plans:
            await asyncio.sleep(waits_s)
            got.append(view.ticket("id", "shoes"))
        return got

    return asyncio.run(all_of_it())


def test_an_ingress_never_waits_for_the_plan() -> None:
    """The first request is the champion's; then the plan holds, also while the controller is away, until it is over."""
    plan = Plan("a", "shoes", 0.0, 1.0, 3.0)
    wanted = Ticket("a", Role.CANARY, 3.0)
    assert tickets([plan, RuntimeError("away"), None, None]) == [None, wanted, wanted, None, None]


@pytest.mark.parametrize(("request_id", "model"), [("", "shoes"), ("id", "hats")])
def test_other_requests_take_no_part(request_id: str, model: str) -> None:
    """A request without an id, and one for another model, are the champion's."""

    async def ask() -> Plan | None:
        return Plan("a", "shoes", 0.0, 1.0, 3.0)

    async def later() -> Ticket | None:
        view = RolloutView(ask)
        view.ticket("id", "shoes")
        await asyncio.sleep(0.01)
        assert view.ticket("id", "shoes") is not None
        return view.ticket(request_id, model)

    assert asyncio.run(later()) is None
    assert RolloutView(None).ticket("id", "shoes") is None
