"""The challenger as a Cutter sees it: asked instead of the champion, or beside it, and never at the user's expense."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cutray.config import RemoverSettings
from cutray.matting.matte import find_subject
from cutray.tta import Prediction
from serve_apps.remover.replicas import queue_full, replica_lost
from serve_apps.remover.schemas import Probs
from serve_apps.rollout.comparison import compare
from serve_apps.rollout.records import Observation, Role, Ticket

# Shadows keep their photos at full size in memory until it is their turn.
_MOST_WAITING, _MOST_BYTES = 4, 96 << 20
# Canaries that hang must not fill a Cutter, which takes few requests at a time.
_MOST_CANARIES = 2
# After so many failures in a row the champion answers for a while, until the controller has decided.
_FAILURES, _PAUSE_S = 3, 10.0
_MOST_UNSENT = 5000
_SEND_AFTER_S = 0.5
_LONGEST_TEXT = 300
# A canary that takes longer than this share of the time that is left would leave the champion too little.
_CANARY_SHARE = 1 / 3


class Predictor(Protocol):
    """A network that predicts photos."""

    async def predict(self, image: np.ndarray, settings: RemoverSettings) -> tuple[Prediction, list[Probs]]:
        """Have all views predicted."""


@dataclass(frozen=True, slots=True)
class _Shadow:
    """A photo that waits for the challenger."""

    challenger: Predictor
    ticket: Ticket
    image: np.ndarray
    settings: RemoverSettings
    champion: Prediction


class ChallengerLane:
    """Has photos predicted by champion and challenger, and reports what came of it."""

    def __init__(
        self,
        connect: Callable[[str], Predictor],
        report: Callable[[Sequence[Observation]], Awaitable[object]],
        *,
        most_waiting: int = _MOST_WAITING,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """Keep the ways to the challenger and to whoever judges it.

        Args:
            connect: Returns the challenger's network by the id of the roll-out.
            report: Takes what came of photos.
            most_waiting: Shadows that wait; further ones are left out.
            most_bytes: Pixels that these keep in memory, in bytes.
        """
        self._connect, self._report = connect, report
        self._most_waiting, self._most_bytes = most_waiting, most_bytes
        self._challenger: tuple[str, Predictor] | None = None
        self._waiting: deque[_Shadow] = deque()
        self._unsent: deque[Observation] = deque(maxlen=_MOST_UNSENT)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._canaries = self._failures = 0
        self._paused_until = 0.0

    async def predict(
        self, ticket: Ticket | None, champion: Predictor, image: np.ndarray, settings: RemoverSettings, left_s: float
    ) -> tuple[Prediction, list[Probs], bool]:
        """Have one photo predicted.

        Args:
            ticket: The request's part in a roll-out; None outside of one.
            champion: The present model.
            image: (H, W, 3) uint8 sRGB.
            settings: Which views there are.
            left_s: How long anybody waits for the result.

        Returns:
            The prediction, the network's answers, and whether they are the challenger's.

        Raises:
            Exception: The champion's; the challenger's are reported, and the champion is asked instead.
        """
        if ticket is None:
            return *(await champion.predict(image, settings)), False
        if self._challenger is None or self._challenger[0] != ticket.rollout_id:
            self._challenger = ticket.rollout_id, self._connect(ticket.rollout_id)
            self._failures, self._paused_until = 0, 0.0
        challenger = self._challenger[1]
        if ticket.role is Role.CANARY:
            if self._canaries >= _MOST_CANARIES or time.monotonic() < self._paused_until:
                self._note(Observation(ticket.rollout_id, ticket.role, dropped=True))
            elif answer := await self._try_canary(challenger, ticket, image, settings, left_s):
                return *answer, True
        prediction, answers = await champion.predict(image, settings)
        if ticket.role is not Role.CANARY:
            found = find_subject(prediction.probs, settings).found
            self._note(Observation(ticket.rollout_id, ticket.role, champion_ms=_ms(answers), champion_found=found))
        if ticket.role is Role.SHADOW:
            self._offer(_Shadow(challenger, ticket, image, settings, prediction))
        return prediction, answers, False

    async def _try_canary(
        self, challenger: Predictor, ticket: Ticket, image: np.ndarray, settings: RemoverSettings, left_s: float
    ) -> tuple[Prediction, list[Probs]] | None:
        """Ask the challenger; None if it fails or takes too long."""
        self._canaries += 1
        try:
            limit_s = min(ticket.limit_s, left_s * _CANARY_SHARE)
            answer = await self._ask(challenger, ticket, image, settings, limit_s)
        finally:
            self._canaries -= 1
        if isinstance(answer, Observation):
            self._note(answer)
            self._failures += 1
            if self._failures >= _FAILURES:
                self._failures, self._paused_until = 0, time.monotonic() + _PAUSE_S
            return None
        self._failures = 0
        prediction, answers = answer
        found = find_subject(prediction.probs, settings).found
        self._note(Observation(ticket.rollout_id, ticket.role, challenger_ms=_ms(answers), challenger_found=found))
        return answer

    @staticmethod
    async def _ask(
        challenger: Predictor, ticket: Ticket, image: np.ndarray, settings: RemoverSettings, limit_s: float
    ) -> tuple[Prediction, list[Probs]] | Observation:
        """Return the challenger's answer, or what went wrong."""
        try:
            async with asyncio.timeout(limit_s):
                return await challenger.predict(image, settings)
        except TimeoutError:
            return Observation(
                ticket.rollout_id, ticket.role, error="timeout", error_text=f"no answer in {limit_s:.1f} s"
            )
        except Exception as error:  # whatever is wrong with a challenger must not reach its users
            return Observation(ticket.rollout_id, ticket.role, error=_kind(error), error_text=_text(error))

    def _offer(self, shadow: _Shadow) -> None:
        """Let a photo wait for the challenger, or leave it out if there is no room."""
        held = sum(one.image.nbytes for one in self._waiting)
        if len(self._waiting) >= self._most_waiting or held + shadow.image.nbytes > self._most_bytes:
            self._note(Observation(shadow.ticket.rollout_id, Role.SHADOW, dropped=True))
            return
        self._waiting.append(shadow)
        self._ensure("shadows", self._work)

    async def _work(self) -> None:
        """Have the challenger work on what waits, one photo at a time."""
        while self._waiting:
            shadow = self._waiting.popleft()
            ticket = shadow.ticket
            answer = await self._ask(shadow.challenger, ticket, shadow.image, shadow.settings, ticket.limit_s)
            if isinstance(answer, Observation):
                self._note(answer)
                continue
            prediction, answers = answer
            result = await asyncio.to_thread(compare, shadow.champion, prediction, shadow.settings)
            self._note(
                Observation(
                    ticket.rollout_id,
                    ticket.role,
                    challenger_ms=_ms(answers),
                    challenger_found=result.challenger_found,
                    iou=result.iou,
                    confidence_change=result.confidence_change,
                    area_change=result.area_change,
                )
            )

    def _note(self, seen: Observation) -> None:
        """Keep what came of a photo until it is sent."""
        self._unsent.append(seen)
        self._ensure("reports", self._send)

    async def _send(self) -> None:
        """Send what was noted, some at a time; it is kept while nobody takes it, up to a number."""
        while self._unsent:
            await asyncio.sleep(_SEND_AFTER_S)
            batch = list(self._unsent)
            self._unsent.clear()
            try:
                await self._report(batch)
            except Exception:  # the controller is being replaced; users must not notice
                self._unsent.extendleft(reversed(batch))

    def _ensure(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have a piece of work done in the background, once at a time."""
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.ensure_future(work())


def _ms(answers: Sequence[Probs]) -> float:
    """Return the time that the network took for all views of a photo."""
    return sum(answer.forward_ms for answer in answers)


def _kind(error: Exception) -> str:
    """Return the kind of a challenger's error."""
    return "lost" if replica_lost(error) else "full" if queue_full(error) else "failed"


def _text(error: Exception) -> str:
    """Return an error's own message in one line, without the stack of another process."""
    cause = getattr(error, "cause", None)
    inner = cause if isinstance(cause, Exception) else error
    return " ".join(f"{type(inner).__name__}: {inner}".split())[:_LONGEST_TEXT]
