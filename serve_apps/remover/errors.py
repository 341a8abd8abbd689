"""Every error that leaves the endpoint: stable codes, their HTTP status, one JSON shape, and remove.bg's beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

# Code → (status, what it means). The table in docs/guides/serving.md is checked against this one.
CODES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "bad_input": (400, "The photo or an option cannot be used."),
        "bad_option": (400, "An option is unknown or has a value that is not allowed."),
        "bad_tensor": (400, "A tensor has a wrong name, type, shape or value."),
        "bad_request": (400, "The request is not what this address takes."),
        "missing_image": (400, "No photo came with the request."),
        "too_many_images": (400, "More photos than a batch may have, or several where one is taken."),
        "url_not_fetched": (400, "Photos are never fetched from addresses; send the bytes."),
        "unauthorized": (401, "An API key is needed, and none or an unknown one came."),
        "address_not_allowed": (403, "An address is malformed, on no list of this endpoint, or in a private network."),
        "forbidden": (403, "The API key is not one of an administrator."),
        "not_found": (404, "There is nothing at this address."),
        "unknown_model": (404, "The model is unknown, or not one that this endpoint serves."),
        "job_not_found": (404, "There is no such job, or no such photo in it."),
        "method_not_allowed": (405, "This address takes another method."),
        "upload_too_slow": (408, "The body did not arrive in time."),
        "edit_changed": (409, "The edit has been changed by another request; fetch its alpha channel again."),
        "job_ended": (409, "The job has ended already."),
        "job_running": (409, "The result is not there yet."),
        "no_rollout": (409, "No roll-out is under way with which this could be done."),
        "rollout_running": (409, "A roll-out is under way: promote or abort it first."),
        "edit_gone": (410, "There is no such edit any more; send the photo again to POST /edits."),
        "body_too_large": (413, "The body has too many bytes."),
        "too_large": (413, "The photo has too many bytes, pixels or scans."),
        "unsupported_encoding": (415, "Compressed bodies are not taken."),
        "unsupported_format": (415, "The file is of a type that is never opened."),
        "bad_archive": (422, "The ZIP is damaged, encrypted or a bomb, or holds names that are not taken."),
        "idempotency_mismatch": (422, "The idempotency key came before with another request."),
        "not_decodable": (422, "The bytes are not a picture, or a damaged one."),
        "shape_mismatch": (422, "Two pictures that belong together differ in size."),
        "quota_exceeded": (429, "The API key has as many jobs, photos or bytes as it may."),
        "rate_limited": (429, "The API key has used up its requests of this minute."),
        "overloaded": (429, "Too many photos are under way."),
        "internal": (500, "A fault on this side; the request id finds it in the logs."),
        "not_ready": (503, "The model is not loaded yet, or the endpoint is shutting down."),
        "unavailable": (503, "A process was lost and the second try failed too, or the state of jobs is away."),
        "deadline_exceeded": (503, "The work was not done in time."),
    }
)
RETRY_AFTER_S = 2  # what a client is told to wait where nobody has set it
_INFERENCE_PATH = re.compile(r"/v2(/|$)")
REMOVE_BG_PATH = "/v1.0/removebg"
_RETRYABLE = frozenset(
    {"quota_exceeded", "rate_limited", "overloaded", "not_ready", "unavailable", "deadline_exceeded"}
)
_REMOVE_BG_CODES = {
    "too_large": "resolution_too_high",
    "not_decodable": "failed_to_read_image",
    "unsupported_format": "invalid_file_type",
    "body_too_large": "file_too_large",
}
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 408: "deadline_exceeded", 413: "body_too_large"}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        code: One of ``CODES``.
        message: What went wrong, for people; the code's own sentence by default.
        retry_after_s: When to come back; only for codes that pass.
    """

    def __init__(self, code: str, message: str = "", retry_after_s: int | None = None) -> None:
        """Look up the status."""
        known = code if code in CODES else "internal"
        self.code = known
        self.status, meaning = CODES[known]
        told = message if message and known == code else meaning
        self.message = told.encode("utf-8", "backslashreplace").decode()  # a name that came may hold half a character
        self.retry_after_s = retry_after_s if known in _RETRYABLE else None
        super().__init__(self.message)

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        when = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        return {"X-Error-Code": self.code, **when}


class RequestError(ApiError):
    """An error of the whole request, such as its background picture: no photo of a batch can have a result."""


def error_body(code: str, message: str, request_id: str, path: str = "") -> dict[str, str]:
    """Return the one JSON shape of all errors; the Open Inference Protocol wants the message as ``error`` as well."""
    told = {"error": message} if _INFERENCE_PATH.search(path) else {}
    return {"code": code, "message": message, "request_id": request_id, **told}


def error_response(error: ApiError, scope: Scope) -> JSONResponse:
    """Build the answer that an error is."""
    body = error_body(error.code, error.message, request_id(scope), scope["path"])
    return JSONResponse(body, error.status, headers=error.headers())


def request_id(scope: Scope) -> str:
    """Return the id that `RequestLimits` gave to a request."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"x-request-id", b"").decode()


class RemoveBgError(Exception):
    """An error in remove.bg's shape.

    Args:
        status: HTTP status.
        title: What went wrong, for people.
        code: One of remove.bg's codes, if there is one.
        headers: Further headers.
    """

    def __init__(self, status: int, title: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Keep what the answer is made of."""
        self.status, self.title, self.code, self.headers = status, title, code, dict(headers or {})
        super().__init__(title)

    def response(self) -> JSONResponse:
        """Build the answer."""
        entry = {"title": self.title, **({"code": self.code} if self.code else {})}
        return JSONResponse({"errors": [entry]}, self.status, headers=self.headers)


def remove_bg_response(error: ApiError) -> JSONResponse:
    """Build the answer that an error is, in remove.bg's shape."""
    status = error.status if error.status in (429, 500, 503) else {401: 403}.get(error.status, 400)
    code = _REMOVE_BG_CODES.get(error.code, error.code) if status == 400 else ""
    return RemoveBgError(status, error.message, code, error.headers()).response()


def code_for_status(status: int) -> str:
    """Name the code for an answer that Serve itself gave."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 429:
        return "overloaded"
    if status == 503:
        return "unavailable"
    return "bad_request" if 400 <= status < 500 else "internal"


def install_handlers(app: FastAPI) -> None:
    """Give every error of an application the one shape; nothing but the message ever leaves."""

    def answer(request: Request, error: ApiError) -> JSONResponse:
        request.state.error_code = error.code
        return error_response(error, request.scope)

    async def on_api_error(request: Request, error: Exception) -> JSONResponse:
        return answer(request, error if isinstance(error, ApiError) else ApiError("internal"))

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return answer(request, ApiError(code_for_status(status)))

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 (the signature is given)
        return answer(request, ApiError("bad_option"))

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
