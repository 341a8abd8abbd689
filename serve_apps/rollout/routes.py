"""The addresses of roll-outs, for administrators alone. Thin: each checks the key, asks the controller and answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from cutray.config import parse_settings
from cutray.errors import ConfigError
from serve_apps.remover.errors import ApiError
from serve_apps.remover.openapi import errors
from serve_apps.remover.schemas import ErrorReply, Limits
from serve_apps.remover.service import Service
from serve_apps.remover.uploads import read_body
from serve_apps.rollout.records import StartRequest

_PRIVATE = {"Cache-Control": "no-store"}
_MOST_BYTES = 65_536
_ANSWER_S = 30.0
_OBJECT = {"application/json": {"schema": {"type": "object"}}}


def rollout_router(service: Service) -> APIRouter:
    """Make the routes.

    Args:
        service: The state of the Ingress.
    """
    router = APIRouter(tags=["roll-outs"], prefix="/rollout")

    async def ask(method: str, *arguments: Any, status: int = 200) -> Response:
        controller = service.rollout_controller
        if controller is None:
            raise ApiError("not_ready", retry_after_s=service.limits.retry_after_s)
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer: dict[str, Any] | ErrorReply = await getattr(controller, method).remote(*arguments)
        except Exception as error:
            raise ApiError("unavailable", retry_after_s=service.limits.retry_after_s) from error
        if isinstance(answer, ErrorReply):
            raise ApiError(answer.code, answer.message, service.limits.retry_after_s)
        return JSONResponse(answer, status, headers=_PRIVATE)

    @router.post("", openapi_extra=_described(StartRequest.model_json_schema()), status_code=202)
    async def start(request: Request) -> Response:
        """Load a challenger and try it on a share of the requests."""
        service.keys.authenticate_admin(request)
        return await ask("start", await _read(request, service.limits), status=202)

    @router.get("", openapi_extra=_described())
    async def status(request: Request) -> Response:
        """Tell how the latest roll-out stands, with its figures."""
        service.keys.authenticate_admin(request)
        return await ask("status")

    @router.post("/promote", openapi_extra=_described(), status_code=202)
    async def promote(request: Request) -> Response:
        """Put the challenger in the champion's place now."""
        service.keys.authenticate_admin(request)
        return await ask("promote", status=202)

    @router.post("/abort", openapi_extra=_described())
    async def abort(request: Request) -> Response:
        """Take the challenger away."""
        service.keys.authenticate_admin(request)
        return await ask("abort")

    return router


async def _read(request: Request, limits: Limits) -> StartRequest:
    """Read and check the body of a request to start."""

    def check(size_bytes: int) -> None:
        if size_bytes > _MOST_BYTES:
            raise ApiError("body_too_large", f"The body of a roll-out has at most {_MOST_BYTES} bytes.")

    body = await read_body(request, limits, check)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError("bad_request", "The body is no JSON.") from error
    if not isinstance(values, dict):
        raise ApiError("bad_request", "The body is no JSON object.")
    try:
        return parse_settings(StartRequest, values)
    except ConfigError as error:
        raise ApiError("bad_option", f"{error.got}.") from error


def _described(body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the OpenAPI document says of an address."""
    rules = (body or {}).pop("$defs", {}).get("RolloutRules")
    if body and rules:
        body["properties"]["rules"] = rules
    sent = {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}} if body else {}
    answers = {code: {"description": "How the roll-out stands.", "content": _OBJECT} for code in ("200", "202")}
    return {**sent, "responses": {**answers, **errors(400, 401, 403, 404, 409, 413, 429, 503)}}
