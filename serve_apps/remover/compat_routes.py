"""The addresses of two other services, so that their clients only change the host: remove.bg's and rembg's."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from serve_apps.remover import openapi
from serve_apps.remover.errors import REMOVE_BG_PATH, ApiError, RemoveBgError, remove_bg_response
from serve_apps.remover.rembg_request import note_model, pick_photo, translate_rembg
from serve_apps.remover.removebg_options import region_error, translate_removebg
from serve_apps.remover.removebg_request import read_fields, read_photo
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
        """Take what clients of remove.bg send; without `size` the result has the photo's full size."""
        try:
            return await _removebg(service, request)
        except RemoveBgError as error:
            request.state.error_code = error.code or "bad_request"
            return error.response()
        except ApiError as error:
            request.state.error_code = error.code
            return remove_bg_response(error)

    @router.get("/v1.0/account", response_class=JSONResponse)
    async def account(request: Request) -> Any:
        """Say that nothing is counted."""
        try:
            name = service.keys.authenticate(request)
        except ApiError as error:
            request.state.error_code = error.code
            return remove_bg_response(error)
        credits = {"total": 0, "subscription": 0, "payg": 0, "enterprise": 0}
        body = {"data": {"attributes": {"credits": credits, "api": {"free_calls": 0, "sizes": "all"}}}}
        return JSONResponse(body, headers=service.keys.rate_headers(name))

    @router.post("/api/remove", openapi_extra=openapi.rembg(), response_class=Response)
    async def rembg(request: Request) -> Response:
        """Take what clients of rembg's server send; `X-Notes` names what was ignored."""
        service.keys.authenticate(request)
        service.check_capacity()
        upload = await read_upload(request, service.limits, max_files=1)
        options, notes = translate_rembg(upload.fields)
        photo, more = pick_photo(upload)
        # Where there is no choice, clients that always name a model of rembg's are served all the same.
        model = await service.models.choose(upload.fields.get("model", "").strip()) if service.models.several else ""
        with service.admitted():
            reply = await service.cut(photo, options, model=model, request_id=request.headers["x-request-id"])
        return image_response(
            reply, notes=[*notes, *more, *([] if model else note_model(upload.fields, reply.report.model))]
        )

    @router.get("/api/remove", openapi_extra=openapi.rembg_url(), response_class=Response)
    async def rembg_url() -> Response:
        """Refuse to fetch a photo from an address."""
        raise ApiError("url_not_fetched")

    return router


async def _removebg(service: Service, request: Request) -> Response:
    """Answer one request in remove.bg's way."""
    service.keys.authenticate(request)
    service.check_capacity()
    # A photo in base64 is one field of the form; the body's own limit still holds.
    limits = service.limits
    upload = await read_upload(request, limits, max_files=1, max_field_bytes=limits.max_body_bytes)
    fields = read_fields(request, upload)
    photo = read_photo(upload, fields)
    backdrop = next((file.data for file in upload.files if file.field == "bg_image_file"), None)
    wanted = translate_removebg(fields, backdrop)
    try:
        with service.admitted():
            request_id = request.headers["x-request-id"]
            reply = await service.cut(
                photo, wanted.options, wanted.backdrop, as_zip=wanted.as_zip, request_id=request_id
            )
    except ApiError as error:
        raise region_error(error, fields) or error from error
    if not reply.report.subject_found:
        raise RemoveBgError(400, "Could not identify foreground in image.", "unknown_foreground")
    place = _foreground(reply, exact=wanted.options.get("crop") is True and not wanted.options.get("margin"))
    headers = {
        **result_headers(reply, wanted.notes),
        "X-Width": str(reply.width_px),
        "X-Height": str(reply.height_px),
        **({} if fields.get("type_level") == "none" else {"X-Type": "other"}),
        "X-Credits-Charged": "0",
        **{f"X-Foreground-{name.title()}": str(value) for name, value in place.items()},
        **service.keys.rate_headers(request.state.key),
    }
    if "application/json" in request.headers.get("accept", ""):
        encoded = base64.b64encode(reply.data).decode()
        named = {f"foreground_{name}": value for name, value in place.items()}
        return JSONResponse({"data": {"result_b64": encoded, **named}}, headers=headers)
    return image_response(reply, headers, wanted.notes)


def _foreground(reply: CutReply, *, exact: bool) -> dict[str, int]:
    """Say where in the photo the subject is: the crop's own box, or the one around all that the network found."""
    boxes = [found.box for found in reply.report.objects]
    if exact or not boxes:
        boxes = [reply.report.box]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}
