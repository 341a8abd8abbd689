"""The roll-out as an Ingress sees it: what part a request plays, without waiting for anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from serve_apps.rollout.records import Plan, Ticket
from serve_apps.rollout.routing import ticket_for

_FRESH_S, _STALE_S = 1.0, 10.0


class RolloutView:
    """Gives requests their tickets by a plan that is a second old; while none can be had, all are the champion's."""

    def __init__(self, ask: Callable[[], Awaitable[Plan | None]] | None) -> None:
        """Keep the way to the plan.

        Args:
            ask: Fetches it; None where there are no roll-outs.
        """
        self._ask = ask
        self._plan: Plan | None = None
        self._asked_at = self._told_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def ticket(self, request_id: str, model: str) -> Ticket | None:
        """Return a request's part, or None outside of a roll-out.

        Args:
            request_id: Id of the request; empty ones take no part.
            model: Name of the model that it asks for; empty where only one is served.
        """
        if self._ask is None or not request_id:
            return None
        now = time.monotonic()
        if now - self._asked_at > _FRESH_S and (self._task is None or self._task.done()):
            self._asked_at = now
            self._task = asyncio.get_running_loop().create_task(self._fetch(self._ask))
        plan = self._plan if now - self._told_at < _STALE_S else None
        return ticket_for(plan, request_id) if plan is not None and plan.model == model else None

    async def _fetch(self, ask: Callable[[], Awaitable[Plan | None]]) -> None:
        """Fetch the plan; after a while without one nobody takes part."""
        try:
            async with asyncio.timeout(_STALE_S):
                plan = await ask()
        except Exception:  # the controller is being replaced; requests go on without it
            return
        self._plan, self._told_at = plan, time.monotonic()
