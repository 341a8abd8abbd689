"""The addresses of two other services, so that their clients only change the host: remove.bg's and rembg's."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from serve_apps.remover import openapi
from serve_apps.remover.errors import REMOVE_BG_PATH, ApiError, RemoveBgError, remove_bg_response
from serve_apps.remover.responses import image_response
from serve_apps.remover.schemas import CutReply
from serve_apps.remover.service import Service
from serve_apps.remover.uploads import Upload, parse_options, read_upload

_SIZES = {"preview", "small", "regular", "medium", "hd", "full", "4k", "50MP", "auto"}
_TYPES = {"auto", "person", "product", "car", "animal", "graphic", "transportation", "other"}
# What only changes the look in ways that are not offered here is refused unless it is the default.
_NEUTRAL = {
    "roi": {"", "0% 0% 100% 100%"},
    "scale": {"", "original", "100%"},
    "position": {"", "original"},
    "shadow_type": {"", "none", "auto"},
    "add_shadow": {"", "false", "0"},
    "type_level": {"", "1", "2", "none", "latest"},
}
_TRUE = {"true", "1", "yes", "on"}


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
        """Take what clients of rembg's server send."""
        request.state.key = service.keys.check(request.headers.get("x-api-key"), request.headers.get("authorization"))
        service.check_capacity()
        upload = await read_upload(request, service.limits, max_files=1)
        image = next((data for name, data in upload.files if name in ("file", "")), None)
        if image is None:
            raise ApiError("missing_image", "No photo came with the request; send it as the file 'file'.")
        with service.admitted():
            return image_response(await service.cut(image, _rembg_options(upload.fields)))

    @router.get("/api/remove", openapi_extra=openapi.rembg_url(), response_class=Response)
    async def rembg_url() -> Response:
        """Refuse to fetch a photo from an address."""
        raise ApiError("url_not_fetched")

    return router


def _rembg_options(fields: Mapping[str, str]) -> dict[str, Any]:
    """Translate rembg's names; its own matting has no counterpart, the model is the one that is served."""
    options = {}
    if fields.get("om", "").lower() in _TRUE:
        options["only_mask"] = "true"
    if fields.get("ppm", "").lower() in _TRUE:
        options["threshold"] = "0.5"
    if colour := fields.get("bgc", "").strip():
        parts = [part.strip() for part in colour.split(",")]
        if len(parts) not in (3, 4) or not all(part.isascii() and part.isdigit() for part in parts):
            raise ApiError("bad_option", "bgc is not red,green,blue,alpha.")
        if len(parts) == 3 or int(parts[3][:4]) > 0:
            options["background"] = ",".join(parts[:3])
    return parse_options(options)


async def _removebg(service: Service, request: Request) -> Response:
    """Answer one request in remove.bg's way."""
    request.state.key = service.keys.check(request.headers.get("x-api-key"), request.headers.get("authorization"))
    service.check_capacity()
    upload = await read_upload(request, service.limits, max_files=1)
    fields = _removebg_fields(request, upload)
    image = _removebg_image(upload, fields)
    backdrop = next((data for name, data in upload.files if name == "bg_image_file"), None)
    options, wants_alpha = _removebg_options(fields, backdrop is not None)
    with service.admitted():
        reply = await service.cut(image, options, backdrop)
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
    if "application/json" in request.headers.get("accept", "") and not wants_alpha:
        return JSONResponse({"data": _removebg_json(reply)}, headers=headers)
    return image_response(reply, headers)


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


def _removebg_fields(request: Request, upload: Upload) -> dict[str, str]:
    """Collect the parameters, which may come as a form or as JSON."""
    if "application/json" not in request.headers.get("content-type", ""):
        return upload.fields
    body = next((data for name, data in upload.files if name == ""), b"{}")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RemoveBgError(400, "The body is not JSON.", "missing_source") from error
    if not isinstance(values, dict):
        raise RemoveBgError(400, "The body is not a JSON object.", "missing_source")
    upload.files = [pair for pair in upload.files if pair[0] != ""]
    return {str(name): _text(value) for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    """Write a JSON value as a form would."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _removebg_image(upload: Upload, fields: Mapping[str, str]) -> bytes:
    """Take the photo from the one place that holds it."""
    files = [data for name, data in upload.files if name == "image_file"]
    encoded, address = fields.get("image_file_b64", ""), fields.get("image_url", "")
    if len(files) + bool(encoded) + bool(address) > 1:
        raise RemoveBgError(400, "Multiple image sources given: send exactly one.", "multiple_sources")
    if address:
        raise RemoveBgError(400, "This server never fetches addresses; send the file itself.", "invalid_image_url")
    if files:
        return files[0]
    if not encoded:
        raise RemoveBgError(400, "No image given: send image_file or image_file_b64.", "missing_source")
    try:
        return base64.b64decode(encoded.split(",", 1)[-1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemoveBgError(400, "image_file_b64 is not base64.", "failed_to_read_image") from error


def _removebg_options(fields: Mapping[str, str], has_backdrop: bool) -> tuple[dict[str, Any], bool]:
    """Translate remove.bg's parameters; returns the options and whether the mask is wanted."""
    colour = fields.get("bg_color", "").strip()
    if fields.get("bg_image_url"):
        raise RemoveBgError(400, "This server never fetches addresses; send bg_image_file.", "invalid_bg_image_url")
    if colour and has_backdrop:
        raise RemoveBgError(400, "Only one background can be given.", "multiple_bg_sources")
    for name, allowed in (("size", _SIZES), ("type", _TYPES), ("format", {"auto", "png", "jpg", "webp"})):
        if fields.get(name) and fields[name] not in allowed:
            raise RemoveBgError(400, f"{name} must be one of {', '.join(sorted(allowed))}.", f"invalid_{name}")
    for name, neutral in _NEUTRAL.items():
        if fields.get(name, "").lower() not in neutral:
            raise RemoveBgError(400, f"{name} is not offered by this server.", f"invalid_{name}")
    channels = fields.get("channels", "rgba")
    if channels not in ("rgba", "alpha"):
        raise RemoveBgError(400, "channels must be rgba or alpha.", "invalid_channels")
    opaque = bool(colour) or has_backdrop
    format = fields.get("format", "auto")
    if format == "jpg" and not opaque and channels == "rgba":
        colour, opaque = "white", True
    format = {"jpg": "jpeg", "auto": "jpeg" if opaque and channels == "rgba" else "png"}.get(format, format)
    options = {"format": format, "only_mask": str(channels == "alpha").lower()}
    if fields.get("crop", "").lower() in _TRUE:
        margin = fields.get("crop_margin", "0").strip()
        if not re.fullmatch(r"\d{1,4}(\.\d+)?(px|%)?", margin):
            raise RemoveBgError(400, "crop_margin must be one value, such as 20px or 5%.", "invalid_crop_margin")
        options |= {"crop": "true", "crop_margin": margin}
    if fields.get("semitransparency", "true").lower() not in _TRUE:
        options["threshold"] = "0.5"
    if colour:
        options["background"] = colour
    try:
        return parse_options(options, has_backdrop=has_backdrop), channels == "alpha"
    except ApiError as error:
        raise RemoveBgError(400, error.message, "invalid_bg_color" if colour else "invalid_format") from error
