"""What the OpenAPI document says about bodies that are read by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cutray.config import HintSettings, PictureSettings
from serve_apps.remover.errors import CODES
from serve_apps.remover.removebg_options import PARAMETERS
from serve_apps.remover.responses import MEDIA
from serve_apps.remover.schemas import CutOptions

_REFUSALS = (400, 401, 404, 408, 413, 415, 422, 429, 500, 503)
BINARY = {"type": "string", "format": "binary"}
_STROKES = {**BINARY, "description": "Picture with green strokes on the subject and red ones on the background."}
_MODEL = {"type": "string", "description": "Model, one of those that /model-info lists; the first of them by default."}
_MATTING = ("af", "ab", "ae")  # numbers of rembg's own matting
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["code", "message", "request_id"],
    "properties": {
        "code": {"type": "string", "enum": sorted(CODES)},
        "message": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def option_schemas() -> dict[str, Any]:
    """Return the schema of each option."""
    schemas = {}
    for name, schema in CutOptions.model_json_schema()["properties"].items():
        kept = {key: value for key, value in schema.items() if key != "title"}
        choices = [part for part in kept.get("anyOf", []) if part.get("type") != "null"]
        if choices:
            kept = {**choices[0], "description": kept.get("description", "")}
        schemas[name] = {key: value for key, value in kept.items() if key != "default" or value is not None}
    del schemas["strokes"]  # comes as a file
    schemas["background"]["description"] = (
        "A colour (white, #ff8800), gradient:white-#ddd, radial:, checker:, stripes: or dots: likewise, or blur."
    )
    return schemas


def _form(images: dict[str, Any], required: str) -> dict[str, Any]:
    """Return a form with photos, a backdrop and every option."""
    backdrop = {**BINARY, "description": "A picture to lay the subject on."}
    properties = {**images, "background_image": backdrop, "strokes": _STROKES, "model": _MODEL}
    return {"schema": {"type": "object", "required": [required], "properties": {**properties, **option_schemas()}}}


def errors(*statuses: int) -> dict[str, Any]:
    """Return the answers that are errors."""
    content = {"application/json": {"schema": _ERROR_SCHEMA}}
    named = {}
    for status in statuses:
        codes = ", ".join(sorted(code for code, (known, _) in CODES.items() if known == status))
        named[str(status)] = {"description": f"Refused: {codes}.", "content": content}
    return named


def single() -> dict[str, Any]:
    """Describe POST /remove-background."""
    raw = {kind: {"schema": BINARY} for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")}
    pictures = {kind: {"schema": BINARY} for kind in MEDIA.values()}
    given = {"model": _MODEL, **option_schemas()}
    query = [{"name": name, "in": "query", "schema": schema} for name, schema in given.items()]
    return {
        "parameters": query,
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": _form({"image": {**BINARY, "description": "The photo."}}, "image"),
                **raw,
            },
        },
        "responses": {
            "200": {"description": "The result; X-Subject-Found says whether there is one.", "content": pictures},
            **errors(*_REFUSALS),
        },
    }


def many() -> dict[str, Any]:
    """Describe POST /batch-remove-background."""
    images = {"images": {"type": "array", "items": BINARY, "minItems": 1, "maxItems": 10, "description": "The photos."}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": _form(images, "images")}},
        "responses": {
            "200": {
                "description": "A zip with results.json, or multipart/mixed if that is what Accept names. "
                "Results have the names of their photos.",
                "content": {"application/zip": {"schema": BINARY}, "multipart/mixed": {"schema": BINARY}},
            },
            **errors(400, 401, 404, 408, 413, 415, 429, 500, 503),
        },
    }


def rembg() -> dict[str, Any]:
    """Describe POST /api/remove."""
    fields = {
        "file": {**BINARY, "description": "The photo."},
        "om": {"type": "boolean", "description": "Give the mask instead of the cutout."},
        "ppm": {"type": "boolean", "description": "Harden the mask."},
        "bgc": {"type": "string", "description": "Background as red,green,blue,alpha."},
        "model": {
            "type": "string",
            "description": "One of the models that are served. Where that is one alone, any other is ignored, and "
            "named in X-Notes.",
        },
        "a": {"type": "boolean", "description": "Ignored, and named in X-Notes: soft edges are always solved."},
        **{
            name: {"type": "integer", "minimum": 0, "description": "Ignored, and named in X-Notes."}
            for name in _MATTING
        },
        "extras": {"type": "string", "description": "Ignored, and named in X-Notes."},
    }
    form = {"schema": {"type": "object", "required": ["file"], "properties": fields}}
    pictures = {"image/png": {"schema": BINARY}, "image/jpeg": {"schema": BINARY}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": form}},
        "responses": {"200": {"description": "The cutout.", "content": pictures}, **errors(*_REFUSALS)},
    }


def rembg_url() -> dict[str, Any]:
    """Describe GET /api/remove, which only ever refuses."""
    return {"responses": {"200": {"description": "Never given: addresses are not fetched."}, **errors(400)}}


def removebg() -> dict[str, Any]:
    """Describe POST /v1.0/removebg, whose errors have remove.bg's shape."""
    entry = {"type": "object", "properties": {"title": {"type": "string"}, "code": {"type": "string"}}}
    shape = {"type": "object", "properties": {"errors": {"type": "array", "items": entry}}}
    fields = {name: {"type": "string"} for name in PARAMETERS if not name.endswith("_file")}
    files = {
        "image_file": {**BINARY, "description": "The photo."},
        "bg_image_file": {**BINARY, "description": "A picture to lay the subject on."},
    }
    form = {"schema": {"type": "object", "properties": {**files, **fields}}}
    kinds = ("image/png", "image/jpeg", "image/webp", "application/zip")
    pictures = {kind: {"schema": BINARY} for kind in kinds}
    refusals = {
        str(status): {"description": "Refused.", "content": {"application/json": {"schema": shape}}}
        for status in (400, 403, 429, 500, 503)
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": form,
                "application/json": {"schema": {"type": "object", "properties": fields}},
            },
        },
        "responses": {
            "200": {
                "description": "The cutout, or JSON with it in base64 if that is what Accept names.",
                "content": {**pictures, "application/json": {"schema": {"type": "object"}}},
            },
            **refusals,
            **errors(413, 415),
        },
    }


_REPORT_HEADERS = {
    name: {"schema": {"type": "string"}, "description": meaning}
    for name, meaning in (
        ("X-Box", "left,top,right,bottom of what the answer shows, in pixels of the photo."),
        ("X-Revision", "Counts the changes of the alpha channel."),
        ("X-Report", "What is known about the mask, as JSON."),
    )
}
_ALPHA = {"image/png": {"schema": BINARY}}
_EDIT_REFUSALS = (400, 401, 408, 410, 413, 415, 422, 429, 500, 503)


def _some_options(names: Iterable[str]) -> dict[str, Any]:
    """Return the schemas of some options."""
    schemas = option_schemas()
    return {name: schemas[name] for name in names if name in schemas}


def edit_begin() -> dict[str, Any]:
    """Describe POST /edits."""
    files = {"file": {**BINARY, "description": "The photo."}, "strokes": _STROKES, "model": _MODEL}
    form = {"schema": {"type": "object", "required": ["file"], "properties": {**option_schemas(), **files}}}
    fields = {
        "id": {"type": "string"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "revision": {"type": "integer"},
        "expires_in_s": {"type": "number", "description": "Time without use after which the edit is given up."},
        "report": {"type": "object"},
    }
    body = {"application/json": {"schema": {"type": "object", "required": [*fields], "properties": fields}}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": form}},
        "responses": {"201": {"description": "The edit.", "content": body}, **errors(*_REFUSALS)},
    }


def edit_strokes() -> dict[str, Any]:
    """Describe POST /edits/{edit_id}/strokes."""
    revision = {"type": "integer", "minimum": 0, "description": "The revision that these hints are meant for."}
    fields = {**_some_options(HintSettings.model_fields), "strokes": _STROKES, "revision": revision}
    form = {"schema": {"type": "object", "properties": fields}}
    changed = {"description": "Alpha where it has changed.", "content": _ALPHA, "headers": _REPORT_HEADERS}
    same = {"description": "Nothing has changed.", "headers": _REPORT_HEADERS}
    return {
        "requestBody": {"content": {"multipart/form-data": form}},
        "responses": {"200": changed, "204": same, **errors(409, *_EDIT_REFUSALS)},
    }


def edit_alpha() -> dict[str, Any]:
    """Describe GET /edits/{edit_id}/alpha."""
    side = {"name": "max_side", "in": "query", "schema": {"type": "integer", "minimum": 1}}
    whole = {"description": "The alpha channel.", "content": _ALPHA, "headers": _REPORT_HEADERS}
    return {"parameters": [side], "responses": {"200": whole, **errors(*_EDIT_REFUSALS)}}


def edit_result() -> dict[str, Any]:
    """Describe POST /edits/{edit_id}/result."""
    files = {"background_image": {**BINARY, "description": "A picture to lay the subject on."}}
    fields = {**_some_options([*PictureSettings.model_fields, "clean_edges"]), **files}
    pictures = {kind: {"schema": BINARY} for kind in MEDIA.values()}
    return {
        "requestBody": {"content": {"multipart/form-data": {"schema": {"type": "object", "properties": fields}}}},
        "responses": {"200": {"description": "The picture.", "content": pictures}, **errors(*_EDIT_REFUSALS)},
    }


def infer() -> dict[str, Any]:
    """Describe POST /v2/models/{name}/infer, whose body may be raw bytes behind the JSON."""
    tensor = {"type": "object", "required": ["name", "datatype", "shape"]}
    body = {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array", "items": tensor}}}
    kinds = {"application/json": {"schema": body}, "application/octet-stream": {"schema": BINARY}}
    answers = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {"schema": BINARY}}
    return {
        "requestBody": {"required": True, "content": kinds},
        "responses": {
            "200": {"description": "The network's map for each picture.", "content": answers},
            **errors(400, 401, 404, 408, 413, 415, 429, 500, 503),
        },
    }


def edit_end() -> dict[str, Any]:
    """Describe DELETE /edits/{edit_id}."""
    return {"responses": {"204": {"description": "It is gone."}, **errors(401, 410, 429, 500, 503)}}
