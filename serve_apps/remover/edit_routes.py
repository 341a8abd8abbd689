"""The addresses of edits: a photo is sent once, and then corrected stroke by stroke."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from cutray.config import HintSettings, PictureSettings
from cutray.removal import RemovalReport
from serve_apps.remover import openapi
from serve_apps.remover.errors import ApiError
from serve_apps.remover.responses import image_response
from serve_apps.remover.schemas import CutReply, CutRequest, EditReply
from serve_apps.remover.service import Service
from serve_apps.remover.uploads import (
    BACKGROUND_FIELD,
    STROKES_FIELD,
    Upload,
    parse_options,
    pick_background,
    pick_images,
    pick_model,
    pick_strokes,
    read_upload,
)

_OUTPUT_OPTIONS = frozenset({*PictureSettings.model_fields, "clean_edges"})
_LARGEST, _MOST_DIGITS = 1 << 30, 10
# Clients and proxies take headers of about 8 KB.
_HEADER_OBJECTS, _HEADER_DIGITS = 20, 5


def edits_router(service: Service) -> APIRouter:
    """Make the routes.

    Args:
        service: The state of the Ingress.
    """
    router = APIRouter(tags=["edits"], prefix="/edits")

    def check(request: Request) -> str:
        owner = service.keys.authenticate(request)
        service.check_capacity()
        return owner

    @router.post("", openapi_extra=openapi.edit_begin(), status_code=201)
    async def begin(request: Request) -> JSONResponse:
        """Send a photo to be edited: a form with the file `file`, and any option of /remove-background."""
        owner = check(request)
        upload = await read_upload(request, service.limits, max_files=1)
        (image,) = pick_images(upload, ("file", "image"), most=1, beside=(STROKES_FIELD,))
        strokes = pick_strokes(upload)
        model = await service.models.choose(pick_model(upload))
        options = parse_options(upload.fields)
        wanted = CutRequest(image.data, options, strokes=strokes, owner=owner, model=model)
        with service.admitted():
            reply = cast(EditReply, await service.edit("open", wanted))
        _, _, width, height = reply.box
        body = {
            "id": reply.edit_id,
            "width": width,
            "height": height,
            "revision": reply.revision,
            "expires_in_s": service.limits.edit_ttl_s,
            "report": asdict(reply.report),
        }
        headers = {"Location": f"{request.url.path.rstrip('/')}/{reply.edit_id}", "Cache-Control": "no-store"}
        return JSONResponse(body, 201, headers=headers)

    @router.post("/{edit_id}/strokes", openapi_extra=openapi.edit_strokes(), response_class=Response)
    async def strokes(edit_id: str, request: Request) -> Response:
        """Replace all hints of an edit; the answer is the alpha channel where it has changed, 204 if it has not."""
        owner = check(request)
        upload = await read_upload(request, service.limits, max_files=1)
        picture = pick_strokes(upload)
        _no_file_but(STROKES_FIELD, upload)
        revision = _number(upload, "revision")
        options = _only(parse_options(upload.fields), frozenset(HintSettings.model_fields))
        wanted = CutRequest(b"", options, strokes=picture, owner=owner, edit_id=edit_id, revision=revision)
        with service.admitted():
            return _alpha_response(cast(EditReply, await service.edit("mark", wanted)))

    @router.get("/{edit_id}/alpha", openapi_extra=openapi.edit_alpha(), response_class=Response)
    async def alpha(edit_id: str, request: Request) -> Response:
        """Fetch the whole alpha channel, shrunk to `max_side` pixels if that is given."""
        owner = check(request)
        side = _number(Upload(fields=dict(request.query_params)), "max_side")
        if side == 0:
            raise ApiError("bad_option", "max_side = 0: allowed is 1 or more.")
        wanted = CutRequest(b"", {}, owner=owner, edit_id=edit_id, max_side_px=side)
        with service.admitted():
            return _alpha_response(cast(EditReply, await service.edit("alpha", wanted)))

    @router.post("/{edit_id}/result", openapi_extra=openapi.edit_result(), response_class=Response)
    async def result(edit_id: str, request: Request) -> Response:
        """Make the finished picture, with any option of the output."""
        owner = check(request)
        upload = await read_upload(request, service.limits, max_files=1)
        backdrop = pick_background(upload)
        _no_file_but(BACKGROUND_FIELD, upload)
        options = _only(parse_options(upload.fields, has_backdrop=backdrop is not None), _OUTPUT_OPTIONS)
        wanted = CutRequest(b"", options, backdrop, owner=owner, edit_id=edit_id)
        with service.admitted():
            return image_response(cast(CutReply, await service.edit("result", wanted)))

    @router.delete("/{edit_id}", openapi_extra=openapi.edit_end(), status_code=204, response_class=Response)
    async def end(edit_id: str, request: Request) -> Response:
        """Give an edit up, with all that is kept of the photo."""
        await service.edit("close", CutRequest(b"", {}, owner=check(request), edit_id=edit_id))
        return Response(status_code=204)

    return router


def _only(options: dict[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    """Refuse options that have no place here."""
    if other := sorted(set(options) - allowed):
        raise ApiError(
            "bad_option", f"{other[0]} cannot be changed in an edit: allowed is {', '.join(sorted(allowed))}."
        )
    return options


def _no_file_but(name: str, upload: Upload) -> None:
    """Refuse files that have no place here: nobody would learn that one was left out."""
    other = next((file.field for file in upload.files if file.field != name and file.data), None)
    if other is not None:
        came = f"A file came as {other[:60]!r}" if other else "A body or a file came without a field's name"
        raise ApiError("bad_option", f"{came}: send a form, in which {name} is the only file.")


def _number(upload: Upload, name: str) -> int | None:
    """Take a whole number out of the fields; None if it is not there."""
    text = upload.fields.pop(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= _LARGEST):
        raise ApiError("bad_option", f"{name} = {text[:60]!r}: allowed is a whole number.")
    return int(text)


def _alpha_response(reply: EditReply) -> Response:
    """Answer with a part of the alpha channel, or with nothing if nothing has changed."""
    if not reply.data:
        return Response(status_code=204, headers=edit_headers(reply))
    return Response(reply.data, media_type="image/png", headers=edit_headers(reply))


def edit_headers(reply: EditReply) -> dict[str, str]:
    """Describe how an edit stands.

    Args:
        reply: The Cutter's answer.
    """
    return {
        "X-Box": ",".join(map(str, reply.box)),
        "X-Revision": str(reply.revision),
        "X-Report": _header_report(reply.report),
        "Cache-Control": "no-store",
    }


def _header_report(report: RemovalReport) -> str:
    """Write a report as JSON that fits into a header: the largest of many subjects, and areas rounded."""
    largest = tuple(
        replace(one, area_fraction=round(one.area_fraction, _HEADER_DIGITS)) for one in report.objects[:_HEADER_OBJECTS]
    )
    area_fraction = round(report.area_fraction, _HEADER_DIGITS)
    return json.dumps(asdict(replace(report, area_fraction=area_fraction, objects=largest)))
