"""The addresses of two other services, so that their clients only change the host: remove.bg's and rembg's."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from serve_apps.remover import openapi
from serve_apps.remover.errors import REMOVE_BG_PATH, ApiError, RemoveBgError, remove_bg_response
from serve_apps.remover.rembg_request import note_model, pick_photo, translate_rembg
from serve_apps.remover.removebg_request import read_fields, read_photo, translate_removebg
from serve_apps.remover.responses import image_response, result_headers
from serve_apps.remover.schemas import CutReply
from serve_apps.remover.service import Service
from serve_apps.remover.uploads import read_upload


def compat_router(service: Service) -> APIRouter:
    """Make the routes.

    Args:
        service: The state of the Ingress.
    """
    router = APIRouter(tags=["drop-in"])

    @router.post(REMOVE_BG_PATH, openapi_extra=openapi.removebg(), response_class=Response)
    async def removebg(request: Request) -> Response:
        """Take what clients of remove.bg send. Sizes are accepted; the result always has the photo's full size."""
        try:
            return await _removebg(service, request)
        except RemoveBgError as error:
            request.state.error_code = error.code or "bad_request"
            return error.response()
        except ApiError as error:
            request.state.error_code = error.code
            return remove_bg_response(error)

    @router.get("/v1.0/account")
    async def account(request: Request) -> dict[str, Any]:
        """Say that nothing is counted."""
        request.state.key = service.keys.check(request.headers.get("x-api-key"), request.headers.get("authorization"))
        credits = {"total": 0, "subscription": 0, "payg": 0, "enterprise": 0}
        return {"data": {"attributes": {"credits": credits, "api": {"free_calls": 0, "sizes": "all"}}}}

    @router.post("/api/remove", openapi_extra=openapi.rembg(), response_class=Response)
    async def rembg(request: Request) -> Response:
        """Take what clients of rembg's server send; `X-Notes` names what was ignored."""
        request.state.key = service.keys.check(request.headers.get("x-api-key"), request.headers.get("authorization"))
        service.check_capacity()
        upload = await read_upload(request, service.limits, max_files=1)
        options, notes = translate_rembg(upload.fields)
        photo, more = pick_photo(upload)
        with service.admitted():
            reply = await service.cut(photo, options)
        return image_response(reply, notes=[*notes, *more, *note_model(upload.fields, reply.report.model)])

    @router.get("/api/remove", openapi_extra=openapi.rembg_url(), response_class=Response)
    async def rembg_url() -> Response:
        """Refuse to fetch a photo from an address."""
        raise ApiError("url_not_fetched")

    return router


async def _removebg(service: Service, request: Request) -> Response:
    """Answer one request in remove.bg's way."""
    request.state.key = service.keys.check(request.headers.get("x-api-key"), request.headers.get("authorization"))
    service.check_capacity()
    # A photo in base64 is one field of the form; the body's own limit still holds.
    limits = service.limits
    upload = await read_upload(request, limits, max_files=1, max_field_bytes=limits.max_body_bytes)
    fields = read_fields(request, upload)
    photo = read_photo(upload, fields)
    backdrop = next((file.data for file in upload.files if file.field == "bg_image_file"), None)
    options, notes = translate_removebg(fields, has_backdrop=backdrop is not None)
    with service.admitted():
        reply = await service.cut(photo, options, backdrop)
    if not reply.report.subject_found:
        raise RemoveBgError(400, "Could not identify foreground in image.", "unknown_foreground")
    left, top, right, bottom = reply.report.box
    headers = {
        "X-Type": "other",
        "X-Credits-Charged": "0",
        "X-Foreground-Left": str(left),
        "X-Foreground-Top": str(top),
        "X-Foreground-Width": str(right - left),
        "X-Foreground-Height": str(bottom - top),
    }
    if "application/json" in request.headers.get("accept", "") and not options.get("only_mask"):
        return JSONResponse({"data": _removebg_json(reply)}, headers={**result_headers(reply, notes), **headers})
    return image_response(reply, headers, notes)


def _removebg_json(reply: CutReply) -> dict[str, Any]:
    """Put a result into JSON."""
    left, top, right, bottom = reply.report.box
    return {
        "result_b64": base64.b64encode(reply.data).decode(),
        "foreground_left": left,
        "foreground_top": top,
        "foreground_width": right - left,
        "foreground_height": bottom - top,
    }
