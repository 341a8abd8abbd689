"""The RolloutController replica: keeps the one roll-out there may be, and decides what becomes of it.

All that it knows is in the store, so that its successor goes on where it was. Ingresses ask it what part requests play,
Cutters tell it what came of them; while it is away, all requests are the champion's.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray import serve

from cutray.errors import CutrayError, UnknownModelError
from cutray.models import registry
from cutray.models.weights import JOIN
from serve_apps.remover.model_names import deployment_of
from serve_apps.remover.schemas import AppArgs, ErrorReply
from serve_apps.rollout.applications import (
    describe,
    load_challenger,
    status_of,
    swap_champion,
    unload_challengers,
)
from serve_apps.rollout.challenger import challenged_model, settle_challenger
from serve_apps.rollout.figures import Figures
from serve_apps.rollout.metrics import RolloutMetrics
from serve_apps.rollout.records import Observation, Plan, Rollout, RolloutState, StartRequest, name_of
from serve_apps.rollout.rules import judge
from serve_apps.rollout.store import RolloutStore
from serve_apps.rollout.tracking import RolloutTracker

_LOG = logging.getLogger("ray.serve")
_TICK_S, _KEEP_S, _TELL_S, _NOTE_S, _SWEEP_S = 0.5, 2.0, 3.0, 60.0, 10.0
# A replica that was lost for another reason than the model is given time to come back.
_UNWELL_S = 30.0
# Ingresses know of the end by then.
_UNLOAD_AFTER_S = 3.0
_LONGEST_REASON = 1000


class RolloutController:
    """Looks after the roll-out of an endpoint. There is one replica."""

    def __init__(self, args: AppArgs) -> None:
        """Go on with what was there, in a thread of its own.

        Args:
            args: Arguments of the endpoint's application.
        """
        self._args, self._app = args, serve.get_replica_context().app_name
        self._store, self._metrics, self._tracker = RolloutStore(), RolloutMetrics(), RolloutTracker()
        self._rollout, self._figures = self._store.load()
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._well_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="rollout", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Raise once the thread has ended; Serve then replaces the replica."""
        if not self._thread.is_alive():
            raise CutrayError(got="the thread that looks after roll-outs has ended", fix="see its log")

    def start(self, request: StartRequest) -> dict[str, Any] | ErrorReply:
        """Begin a roll-out; returns how it stands, before the challenger is loaded."""
        if (refusal := self._busy()) is not None:
            return refusal
        try:
            model = settle_challenger(request.model)
            challenges = challenged_model(request, self._args.models)
        except UnknownModelError as error:
            return ErrorReply("unknown_model", str(error))
        except CutrayError as error:
            return ErrorReply("unavailable", str(error))
        with self._lock:
            if (refusal := self._busy()) is not None:
                return refusal
            self._figures = Figures()
            started = Rollout(secrets.token_hex(4), request, model, challenges, started_at=time.time())
            self._store.keep_figures(self._figures)
            self._keep(started)
        return self.status()

    def _busy(self) -> ErrorReply | None:
        """Return why no roll-out can begin now, or None."""
        now = self._rollout
        if now is None or not now.active:
            return None
        return ErrorReply("rollout_running", f"{now.model} is {now.state} already: promote or abort it first.")

    def status(self) -> dict[str, Any]:
        """Tell how the latest roll-out stands; an empty table where there was none."""
        with self._lock:
            rollout, figures = self._rollout, self._figures
            if rollout is None:
                return {}
            told = {**rollout.to_dict(), "figures": figures.summary(), "last_error": figures.last_error}
            if rollout.state is RolloutState.RUNNING:
                verdict = judge(rollout.request.rules, figures, time.time() - rollout.running_at)
                told["verdict"] = {"action": verdict.action, "reason": verdict.reason}
            return told

    def promote(self) -> dict[str, Any] | ErrorReply:
        """Promote the challenger whatever the rules say."""
        now = self._rollout
        if now is None or not self._change(now, RolloutState.RUNNING, RolloutState.PROMOTING, reason="asked for"):
            return ErrorReply("no_rollout", "No challenger is loaded that could be promoted.")
        return self.status()

    def abort(self) -> dict[str, Any] | ErrorReply:
        """Take the challenger away."""
        now = self._rollout
        if (
            now is None
            or now.state not in (RolloutState.LOADING, RolloutState.RUNNING)
            or not self._end(now, RolloutState.ABORTED, "asked for")
        ):
            return ErrorReply("no_rollout", "No roll-out is under way that could be aborted.")
        return self.status()

    def plan(self) -> Plan | None:
        """Tell an Ingress what part requests play; None while the challenger takes none."""
        return None if self._rollout is None else self._rollout.plan

    def report(self, seen: Sequence[Observation]) -> None:
        """Take in what came of photos."""
        with self._lock:
            rollout = self._rollout
            for one in seen:
                if rollout is not None and rollout.active and one.rollout_id == rollout.rollout_id:
                    self._figures.add(one)
                    self._metrics.add(one)

    def _work(self) -> None:
        """Look at everything again and again; what fails, as while Serve's controller restarts, is tried again."""
        while True:
            for step in (self._advance, self._remember, self._sweep):
                try:
                    step()
                except Exception as error:  # the outer edge of the thread: whatever it is, it goes on
                    _LOG.error("looking after the roll-out failed: %s", type(error).__name__, exc_info=True)
                    time.sleep(1.0)
            time.sleep(_TICK_S)

    def _advance(self) -> None:
        """Take the roll-out a step further."""
        now = self._rollout
        if now is None or not now.active:
            return
        if now.state is RolloutState.PROMOTING:
            self._finish_promotion(now)
            return
        status, message = status_of(name_of(now.rollout_id))
        if now.state is RolloutState.LOADING:
            self._load(now, status, message)
        else:
            self._judge(now, status, message)

    def _load(self, now: Rollout, status: str, message: str) -> None:
        """Have the challenger loaded, and see what comes of it."""
        asked = now.request
        if not status:
            load_challenger(now.rollout_id, now.model, now.challenges, self._args, self._app, asked.replicas)
        elif status == "RUNNING":
            sha256 = describe(now.rollout_id).identity
            self._well_at = time.monotonic()
            self._change(now, now.state, RolloutState.RUNNING, sha256=sha256, running_at=time.time())
        elif status == "DEPLOY_FAILED":
            self._end(now, RolloutState.ROLLED_BACK, f"it could not be loaded: {error_in(message)}")
        elif time.time() - now.started_at > asked.rules.max_load_s:
            self._end(now, RolloutState.ROLLED_BACK, f"it was not loaded within {asked.rules.max_load_s:g} s")

    def _judge(self, now: Rollout, status: str, message: str) -> None:
        """Apply the rules to a challenger that takes part."""
        if status == "RUNNING":
            self._well_at = time.monotonic()
        elif status in ("", "DEPLOY_FAILED") or time.monotonic() - self._well_at > _UNWELL_S:
            self._end(now, RolloutState.ROLLED_BACK, f"its replicas are not well: {error_in(message) or 'gone'}")
            return
        with self._lock:
            verdict = judge(now.request.rules, self._figures, time.time() - now.running_at)
        if verdict.action == "roll_back":
            self._end(now, RolloutState.ROLLED_BACK, verdict.reason)
        elif verdict.action == "promote":
            self._change(now, RolloutState.RUNNING, RolloutState.PROMOTING, reason=verdict.reason)

    def _finish_promotion(self, now: Rollout) -> None:
        """Put the challenger in the champion's place; requests are the champion's meanwhile."""
        try:
            swap_champion(self._app, deployment_of(now.challenges, self._args.models), now.model, now.sha256)
        except CutrayError as error:
            self._end(now, RolloutState.ROLLED_BACK, str(error))
            return
        note = self._set_alias(now)
        self._end(now, RolloutState.PROMOTED, now.reason, notes=(*now.notes, note) if note else now.notes)

    def _set_alias(self, now: Rollout) -> str:
        """Give the version in the registry its alias; returns what there is to say about it."""
        if JOIN in now.model or not now.model.startswith(registry.SCHEME):
            return f"write {now.model} into the YAML: the next start takes the model that is named there"
        name, version = now.model.removeprefix(registry.SCHEME).split("/")
        try:
            registry.set_alias(name, now.request.alias, version)
        except CutrayError as error:
            return f"the alias {now.request.alias} was not set: {error}"
        return f"the alias {now.request.alias} of {name} is version {version} now"

    def _change(self, now: Rollout, before: RolloutState, after: RolloutState, **changes: Any) -> bool:
        """Bring the roll-out into another state; returns whether it was in the one that is expected."""
        with self._lock:
            if self._rollout is None or self._rollout.rollout_id != now.rollout_id or self._rollout.state is not before:
                return False
            self._keep(replace(self._rollout, state=after, **changes))
            return True

    def _end(self, now: Rollout, after: RolloutState, reason: str, **changes: Any) -> bool:
        """End the roll-out and take the challenger away; returns whether it had not ended already."""
        reason = reason[:_LONGEST_REASON]
        ended = self._change(now, now.state, after, reason=reason, ended_at=time.time(), **changes)
        if ended:
            _LOG.info("roll-out %s of %s: %s, %s", now.rollout_id, now.model, after, reason)
            self._store.keep_figures(self._figures)
            # Requests that are still meant for it would wait for nobody.
            self._due["sweep"] = time.monotonic() + _UNLOAD_AFTER_S
        return ended

    def _keep(self, rollout: Rollout) -> None:
        """Keep a new state, and note it; the lock is held."""
        self._store.keep(rollout)
        self._rollout = rollout
        self._tracker.note(rollout, self._figures.summary())
        self._metrics.tell(rollout)

    def _remember(self) -> None:
        """Keep the figures, and tell of them, now and then."""
        now = self._rollout
        if self._is_due("tell", _TELL_S):
            self._metrics.tell(now)
        if now is None or not now.active:
            return
        with self._lock:
            if self._is_due("keep", _KEEP_S):
                self._store.keep_figures(self._figures)
            if self._is_due("note", _NOTE_S):
                self._tracker.note(now, self._figures.summary())

    def _sweep(self) -> None:
        """Take away challengers that are left over, as when this process was lost at the wrong moment."""
        if self._is_due("sweep", _SWEEP_S):
            now = self._rollout
            unload_challengers(but=now.rollout_id if now is not None and now.active else "")

    def _is_due(self, what: str, each_s: float) -> bool:
        """Return whether something is to be done again."""
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self._due[what] = time.monotonic() + each_s
        return True


def error_in(message: str) -> str:
    """Return the last error that Serve's message tells of, which stands behind its stack; else the message's end."""
    starts = [found.start(1) for found in re.finditer(r"(?:\w+\.)*(\w+(?:Error|Exception): )", message)]
    return message[starts[-1] if starts else -_LONGEST_REASON // 2 :].strip()
