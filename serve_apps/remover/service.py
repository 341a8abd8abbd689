"""What the Ingress does with photos: admission, deadline, one retry, and a count of it all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_apps.remover.api_keys import ApiKeyAuth
from serve_apps.remover.errors import ApiError, RequestError
from serve_apps.remover.metrics import IngressMetrics
from serve_apps.remover.models import Models
from serve_apps.remover.replicas import queue_full, replica_lost
from serve_apps.remover.schemas import AppArgs, CutReply, CutRequest, EditReply, ErrorReply, InferReply, InferRequest
from serve_apps.remover.tracing import open_tracer
from serve_apps.rollout.view import RolloutView

_LOG = logging.getLogger("ray.serve")
_TRIES = 2
_EDIT_TRIES, _EDIT_PAUSE_S = 5, 0.1


class Service:
    """The state of one Ingress replica. It owns the bytes of a photo until its result is there."""

    def __init__(
        self,
        cutter: DeploymentHandle,
        segmenters: Mapping[str, DeploymentHandle],
        args: AppArgs,
        rollout: DeploymentHandle | None = None,
    ) -> None:
        """Keep the ways to the other deployments.

        Args:
            cutter: Handle of the Cutter deployment.
            segmenters: Handle of the Segmenter deployment of each model, the default first.
            args: Limits, keys and the like.
            rollout: Handle of the RolloutController; None where there are no roll-outs.
        """
        self.args = args
        self.limits = args.limits
        self.keys = ApiKeyAuth(args.api_keys, args.limits.requests_per_minute, args.admin_keys)
        self.metrics = IngressMetrics()
        self.draining = False
        self.in_flight = 0
        self._cutter = cutter
        self.models = Models(segmenters, args)
        self.tracer = open_tracer("Ingress")
        self.rollout_controller = rollout
        self._rollout = RolloutView(rollout.plan.remote if rollout is not None else None)

    def capacity(self) -> int:
        """Return how many photos would be let in now, each by itself."""
        return 0 if self.draining else max(0, self.limits.max_in_flight - self.in_flight)

    @contextmanager
    def admitted(self, photos: int = 1) -> Iterator[None]:
        """Count photos as under way, or refuse them at once; waiting would only make everybody late.

        Raises:
            ApiError: Too many are under way, or the endpoint is shutting down.
        """
        self.check_capacity(photos)
        self.in_flight += photos
        self.metrics.in_flight.set(self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= photos
            self.metrics.in_flight.set(self.in_flight)

    def check_capacity(self, photos: int = 1) -> None:
        """Refuse what could not be admitted, before its body is read.

        Raises:
            ApiError: Too many are under way, or the endpoint is shutting down.
        """
        if self.draining:
            raise ApiError("not_ready", retry_after_s=self.limits.retry_after_s)
        if self.in_flight and self.in_flight + photos > self.limits.max_in_flight:
            raise ApiError("overloaded", retry_after_s=self.limits.retry_after_s)

    async def cut(
        self,
        data: bytes,
        options: dict[str, Any],
        backdrop: bytes | None = None,
        strokes: bytes | None = None,
        *,
        as_zip: bool = False,
        model: str = "",
        request_id: str = "",
    ) -> CutReply:
        """Cut out one photo that was admitted.

        Args:
            data: The encoded photo.
            options: Fields of ``CutOptions``, already checked.
            backdrop: An encoded picture to lay the subject on, or None.
            strokes: An encoded picture of strokes, or None.
            as_zip: Whether colours and alpha are wanted as two files.
            model: From ``Models.choose``.
            request_id: Decides its part in a roll-out; empty for none.

        Raises:
            ApiError: There is no result; the code says why.
        """
        ticket = self._rollout.ticket(request_id, model or next(iter(self.args.models), ""))
        request = CutRequest(data, options, backdrop, strokes=strokes, as_zip=as_zip, model=model, ticket=ticket)
        reply: CutReply = await self._within_deadline("cut", request)
        for stage, spent_ms in reply.report.timings_ms.items():
            self.metrics.stage_ms.observe(spent_ms, {"stage": stage, "model": reply.report.model})
        if not reply.report.subject_found:
            self.metrics.no_subject.inc(tags={"model": reply.report.model})
        return reply

    async def infer(self, request: InferRequest) -> InferReply:
        """Run the network alone on tensors that were admitted.

        Args:
            request: The tensors.

        Raises:
            ApiError: There is no result; the code says why.
        """
        reply: InferReply = await self._within_deadline("infer", request)
        return reply

    async def _within_deadline(self, method: str, request: CutRequest | InferRequest) -> Any:
        """Have a Cutter work on a request while anybody waits for it; an error as a value becomes an exception."""
        until = time.monotonic() + self.limits.deadline_s
        try:
            async with asyncio.timeout(self.limits.deadline_s):
                reply = await self._try_twice(method, request, until)
        except TimeoutError as error:
            raise self._failure(error, lost="unavailable") from error
        if isinstance(reply, ErrorReply):
            raise self._refusal(reply)
        return reply

    async def _try_twice(self, method: str, request: CutRequest | InferRequest, until: float) -> Any:
        """Ask a Cutter, and another one if the first was lost: the work changes nothing, so a retry is safe."""
        for attempt in range(1, _TRIES + 1):
            left = replace(request, seconds_left=max(0.1, until - time.monotonic()), trace=self.tracer.current())
            try:
                return await getattr(self._cutter, method).remote(left)
            except Exception as error:
                if attempt == _TRIES or not replica_lost(error):
                    raise self._failure(error, lost="unavailable") from error
                self.metrics.retries.inc()
        raise ApiError("internal")

    async def edit(self, action: str, request: CutRequest) -> CutReply | EditReply | None:
        """Have one thing done with a photo that is being edited.

        Args:
            action: open, mark, alpha, result or close.
            request: The edit, and what is wanted.

        Raises:
            ApiError: It cannot be done; the code says why.
        """
        holder = request.edit_id.partition(".")[0]
        cutter = self._cutter.options(multiplexed_model_id=holder) if holder else self._cutter
        for attempt in range(_EDIT_TRIES):
            try:
                async with asyncio.timeout(self.limits.deadline_s):
                    timed = replace(request, seconds_left=self.limits.deadline_s, trace=self.tracer.current())
                    reply: CutReply | EditReply | ErrorReply = await cutter.edit.remote(action, timed)
            except Exception as error:
                raise self._failure(error, lost="edit_gone" if holder else "unavailable") from error
            if not isinstance(reply, ErrorReply):
                return reply
            if not reply.code:  # nothing has changed
                return None
            if reply.code != "edit_elsewhere":
                raise self._refusal(reply)
            # Under load Serve may hand a request to a replica that another one was meant for.
            await asyncio.sleep(_EDIT_PAUSE_S * attempt)
        raise self._refusal(ErrorReply("edit_gone", ""))

    def _refusal(self, reply: ErrorReply) -> ApiError:
        """Count what a Cutter refuses, and return the error that says so."""
        self.metrics.rejected.inc(tags={"reason": reply.code})
        kind = RequestError if reply.of_request else ApiError
        return kind(reply.code, reply.message, self.limits.retry_after_s)

    def _failure(self, error: Exception, *, lost: str) -> ApiError:
        """Return the error that says why a call to a Cutter failed; ``lost`` is its code where the replica died."""
        if isinstance(error, TimeoutError):
            code = "deadline_exceeded"
        elif queue_full(error):
            code = "overloaded"
        elif replica_lost(error):
            code = lost
        else:
            _LOG.error("a Cutter failed: %s", type(error).__name__, exc_info=error)
            return ApiError("internal")
        return ApiError(code, retry_after_s=self.limits.retry_after_s)

    async def drain(self, timeout_s: float) -> int:
        """Take no more photos and wait for those under way.

        Args:
            timeout_s: Longest wait.

        Returns:
            How many are still under way.
        """
        self.draining = True
        until = time.monotonic() + timeout_s
        while self.in_flight and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return self.in_flight
