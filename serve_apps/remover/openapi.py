"""What the OpenAPI document says about bodies that are read by hand."""

from __future__ import annotations

from typing import Any

from serve_apps.remover.errors import CODES
from serve_apps.remover.responses import MEDIA
from serve_apps.remover.schemas import CutOptions

_REFUSALS = (400, 401, 408, 413, 415, 422, 429, 500, 503)
_BINARY = {"type": "string", "format": "binary"}
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


def _options() -> dict[str, Any]:
    """Return the schema of each option."""
    schemas = {}
    for name, schema in CutOptions.model_json_schema()["properties"].items():
        kept = {key: value for key, value in schema.items() if key != "title"}
        choices = [part for part in kept.get("anyOf", []) if part.get("type") != "null"]
        if choices:
            kept = {**choices[0], "description": kept.get("description", "")}
        schemas[name] = {key: value for key, value in kept.items() if key != "default" or value is not None}
    schemas["background"]["description"] = "A colour (white, #ff8800, 255,136,0), or blur."
    return schemas


def _form(images: dict[str, Any], required: str) -> dict[str, Any]:
    """Return a form with photos, a backdrop and every option."""
    properties = {**images, "background_image": {**_BINARY, "description": "A picture to lay the subject on."}}
    return {"schema": {"type": "object", "required": [required], "properties": {**properties, **_options()}}}


def _errors(*statuses: int) -> dict[str, Any]:
    """Return the answers that are errors."""
    content = {"application/json": {"schema": _ERROR_SCHEMA}}
    named = {}
    for status in statuses:
        codes = ", ".join(sorted(code for code, (known, _) in CODES.items() if known == status))
        named[str(status)] = {"description": f"Refused: {codes}.", "content": content}
    return named


def single() -> dict[str, Any]:
    """Describe POST /remove-background."""
    raw = {kind: {"schema": _BINARY} for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")}
    pictures = {kind: {"schema": _BINARY} for kind in MEDIA.values()}
    query = [{"name": name, "in": "query", "schema": schema} for name, schema in _options().items()]
    return {
        "parameters": query,
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": _form({"image": {**_BINARY, "description": "The photo."}}, "image"),
                **raw,
            },
        },
        "responses": {
            "200": {"description": "The result; X-Subject-Found says whether there is one.", "content": pictures},
            **_errors(*_REFUSALS),
        },
    }


def many() -> dict[str, Any]:
    """Describe POST /batch-remove-background."""
    images = {
        "images": {"type": "array", "items": _BINARY, "minItems": 1, "maxItems": 10, "description": "The photos."}
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": _form(images, "images")}},
        "responses": {
            "200": {
                "description": "A zip with results.json, or multipart/mixed if that is what Accept names. "
                "Results have the names of their photos.",
                "content": {"application/zip": {"schema": _BINARY}, "multipart/mixed": {"schema": _BINARY}},
            },
            **_errors(400, 401, 408, 413, 415, 429, 500, 503),
        },
    }


def rembg() -> dict[str, Any]:
    """Describe POST /api/remove."""
    fields = {
        "file": {**_BINARY, "description": "The photo."},
        "om": {"type": "boolean", "description": "Give the mask instead of the cutout."},
        "ppm": {"type": "boolean", "description": "Harden the mask."},
        "bgc": {"type": "string", "description": "Background as red,green,blue,alpha."},
        "model": {
            "type": "string",
            "description": "Ignored, and named in X-Notes, unless it is the one that is served.",
        },
        "a": {"type": "boolean", "description": "Ignored, and named in X-Notes: soft edges are always solved."},
        **{
            name: {"type": "integer", "minimum": 0, "description": "Ignored, and named in X-Notes."}
            for name in _MATTING
        },
        "extras": {"type": "string", "description": "Ignored, and named in X-Notes."},
    }
    form = {"schema": {"type": "object", "required": ["file"], "properties": fields}}
    pictures = {"image/png": {"schema": _BINARY}, "image/jpeg": {"schema": _BINARY}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": form}},
        "responses": {"200": {"description": "The cutout.", "content": pictures}, **_errors(*_REFUSALS)},
    }


def rembg_url() -> dict[str, Any]:
    """Describe GET /api/remove, which only ever refuses."""
    return {"responses": {"200": {"description": "Never given: addresses are not fetched."}, **_errors(400)}}


def removebg() -> dict[str, Any]:
    """Describe POST /v1.0/removebg, whose errors have remove.bg's shape."""
    entry = {"type": "object", "properties": {"title": {"type": "string"}, "code": {"type": "string"}}}
    errors = {"type": "object", "properties": {"errors": {"type": "array", "items": entry}}}
    names = ("image_file_b64", "size", "type", "format", "channels", "bg_color", "crop", "crop_margin")
    fields = {name: {"type": "string"} for name in names}
    files = {
        "image_file": {**_BINARY, "description": "The photo."},
        "bg_image_file": {**_BINARY, "description": "A picture to lay the subject on."},
    }
    form = {"schema": {"type": "object", "properties": {**files, **fields}}}
    pictures = {kind: {"schema": _BINARY} for kind in ("image/png", "image/jpeg", "image/webp")}
    refusals = {
        str(status): {"description": "Refused.", "content": {"application/json": {"schema": errors}}}
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
            **_errors(413, 415),
        },
    }
