"""The routes of the page and of the description: listed at the start, so that no path is ever built from a request."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

from fastapi import APIRouter
from PIL import features
from starlette.responses import Response

from cutray.config.templates import ABOUT, list_templates

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PATHS = {"index.html": "/", "docs.html": "/docs"}  # other files have their own names
_OF_DOCS = frozenset({"docs.html", "docs.js", "page.css", "icon.svg"})
# Name → media type, endings of files.
FORMATS = {
    "JPEG": ("image/jpeg", ["jpg", "jpeg", "jpe", "jfif", "mpo"]),
    "PNG": ("image/png", ["png", "apng"]),
    "WebP": ("image/webp", ["webp"]),
    "AVIF": ("image/avif", ["avif"]),
    "HEIC": ("image/heic", ["heic", "heif"]),
    "TIFF": ("image/tiff", ["tif", "tiff"]),
    "BMP": ("image/bmp", ["bmp", "dib"]),
    "GIF": ("image/gif", ["gif"]),
}


def page_router(*, page: bool, key_needed: bool, max_image_bytes: int) -> APIRouter:
    """Make the routes.

    Args:
        page: Whether there is a page at all; the description is always there.
        key_needed: Whether requests need an API key, so that the page asks for one.
        max_image_bytes: Largest photo, which the page refuses without sending it.
    """
    router = APIRouter(include_in_schema=False)
    for file in sorted(resources.files(__package__).joinpath("page").iterdir(), key=lambda entry: entry.name):
        media_type = _MEDIA_TYPES.get(Path(file.name).suffix)
        if media_type and (page or file.name in _OF_DOCS):
            answer = _constant(file.read_bytes(), media_type)
            path = _PATHS.get(file.name, f"/{file.name}")
            router.add_api_route(path, answer, methods=["GET"], response_class=Response)
    if page:
        facts = {
            "formats": readable_formats(),
            "templates": _templates(),
            "key_needed": key_needed,
            "max_image_bytes": max_image_bytes,
        }
        answer = _constant(json.dumps(facts).encode(), "application/json")
        router.add_api_route("/page.json", answer, methods=["GET"], response_class=Response)
    return router


def readable_formats() -> list[dict[str, object]]:
    """Return the formats of photos that can be opened with the packages that are installed."""
    missing = set()
    if importlib.util.find_spec("pillow_heif") is None:
        missing.add("HEIC")
    if not features.check("avif"):
        missing.add("AVIF")
    return [
        {"name": name, "type": media_type, "endings": endings}
        for name, (media_type, endings) in FORMATS.items()
        if name not in missing
    ]


def _templates() -> list[dict[str, object]]:
    """Describe the templates; of their values only what the page needs, because a background may be a path."""
    return [
        {
            "name": name,
            "about": values.get(ABOUT, ""),
            "has_size": "size" in values,
            "has_background": "background" in values,
        }
        for name, values in list_templates().items()
    ]


def _constant(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    """Return a route that always gives the same answer."""

    async def answer() -> Response:
        headers = {"Content-Security-Policy": _CSP, "Cache-Control": "no-cache"}
        return Response(content, media_type=media_type, headers=headers)

    return answer
