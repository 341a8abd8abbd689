"""What the OpenAPI document says about jobs."""

from __future__ import annotations

from typing import Any

from serve_apps.remover.openapi import BINARY, errors, option_schemas

_TEXT, _WHOLE = {"type": "string"}, {"type": "integer", "minimum": 0}
_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_PAGE = [{"name": name, "in": "query", "schema": _WHOLE} for name in ("offset", "limit")]


def begin(max_photos: int) -> dict[str, Any]:
    """Describe POST /jobs."""
    photos = {"type": "array", "items": BINARY, "minItems": 1, "maxItems": max_photos, "description": "The photos."}
    shared = {
        "webhook": {**_TEXT, "description": "Address to tell of the job's end; on the list of this endpoint."},
        "target": {**_TEXT, "description": "s3:// folder to write results to as well; on the list of this endpoint."},
        "model": {
            **_TEXT,
            "description": "Model to work with, of those that /model-info lists; the default otherwise.",
        },
        **option_schemas(),
    }
    files = {
        "images": photos,
        "archive": {**BINARY, "description": "A ZIP of photos instead of single ones."},
        "background_image": {**BINARY, "description": "A picture to lay the subjects on."},
    }
    sources = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": max_photos, "description": "Addresses."}
    from_addresses = {"type": "object", "required": ["sources"], "properties": {"sources": sources, **shared}}
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
    return {
        "parameters": [key],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "properties": {**files, **shared}}},
                "application/json": {"schema": from_addresses},
                "application/zip": {"schema": BINARY},
            },
        },
        "responses": {
            "202": {"description": "The job, with `job_id`, `status_url` and `eta_s`.", "content": _OBJECT},
            **errors(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503),
        },
    }


def listing() -> dict[str, Any]:
    """Describe GET /jobs."""
    return {"parameters": _PAGE, "responses": {"200": {"description": "Jobs.", "content": _OBJECT}, **_refusals()}}


def secret() -> dict[str, Any]:
    """Describe GET /jobs/webhook-secret."""
    return {"responses": {"200": {"description": "The secret.", "content": _OBJECT}, **_refusals()}}


def status() -> dict[str, Any]:
    """Describe GET /jobs/{job_id}."""
    told = {"description": "State, progress, and a page of photos.", "content": _OBJECT}
    return {"parameters": _PAGE, "responses": {"200": told, **_refusals()}}


def result() -> dict[str, Any]:
    """Describe GET /jobs/{job_id}/results/{file}."""
    picture = {"description": "The result.", "content": {"application/octet-stream": {"schema": BINARY}}}
    return {"responses": {"200": picture, **_refusals(409)}}


def archive() -> dict[str, Any]:
    """Describe GET /jobs/{job_id}/results.zip."""
    packed = {"description": "Results and results.json.", "content": {"application/zip": {"schema": BINARY}}}
    return {"parameters": _PAGE, "responses": {"200": packed, **_refusals(409)}}


def cancel() -> dict[str, Any]:
    """Describe DELETE /jobs/{job_id}."""
    purge = {"name": "purge", "in": "query", "schema": {"type": "boolean", "default": False}}
    answers = {
        "202": {"description": "The job, which is cancelled or will be.", "content": _OBJECT},
        "204": {"description": "It is deleted."},
    }
    return {"parameters": [purge], "responses": {**answers, **_refusals(409)}}


def _refusals(*more: int) -> dict[str, Any]:
    """Return the answers that are errors."""
    return errors(400, 401, 404, *more, 429, 500, 503)
