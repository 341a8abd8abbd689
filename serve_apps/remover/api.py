"""The addresses of the endpoint. Thin: each reads, asks the service and answers."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response

from cutray import __version__
from serve_apps.jobs.routes import install_database_handler, jobs_router
from serve_apps.remover import openapi
from serve_apps.remover.access_log import AccessLog
from serve_apps.remover.compat_routes import compat_router
from serve_apps.remover.edit_routes import edits_router
from serve_apps.remover.errors import ApiError, RequestError, install_handlers
from serve_apps.remover.http_methods import HttpMethods
from serve_apps.remover.infer_routes import infer_router
from serve_apps.remover.load_shedder import CapacityHeader
from serve_apps.remover.page_routes import page_router
from serve_apps.remover.request_limits import RequestLimits
from serve_apps.remover.responses import EXPOSED_HEADERS, batch_response, image_response
from serve_apps.remover.schemas import CutReply
from serve_apps.remover.service import Service
from serve_apps.remover.trace_requests import TraceRequests
from serve_apps.remover.tracing import are_wanted
from serve_apps.remover.uploads import (
    BACKGROUND_FIELD,
    STROKES_FIELD,
    parse_options,
    pick_background,
    pick_images,
    pick_model,
    pick_strokes,
    read_upload,
)
from serve_apps.rollout.routes import rollout_router

_ABOUT = "Cuts the subject out of photos. Every error is JSON with a stable code, a message and the request's id."
_IMAGE_FIELDS = ("image", "file")
_BATCH_FIELDS = ("images", "image", "files", "file")


def create_api(service: Service) -> FastAPI:
    """Build the application of one Ingress.

    Args:
        service: Its state.

    Returns:
        The ASGI application, with request limits, access log and error handlers.
    """
    app = FastAPI(title="Cutray", version=__version__, docs_url=None, redoc_url=None, description=_ABOUT)
    install_handlers(app)
    install_database_handler(app, service.limits.retry_after_s)
    largest = service.limits.max_image_bytes
    static = page_router(page=service.args.page, key_needed=service.keys.needed, max_image_bytes=largest)
    routers = (
        _photos(service),
        _state(service),
        compat_router(service),
        edits_router(service),
        infer_router(service),
        jobs_router(service),
        rollout_router(service),
        static,
    )
    for router in routers:
        app.include_router(router)
    app.add_middleware(HttpMethods, routes=[*app.routes, *(route for router in routers for route in router.routes)])
    if service.args.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.args.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["X-API-Key", "Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(CapacityHeader, capacity=service.capacity)
    app.add_middleware(AccessLog, metrics=service.metrics)
    if are_wanted():
        app.add_middleware(TraceRequests, tracer=service.tracer, part="Ingress")
    limits = service.limits
    app.add_middleware(
        RequestLimits,
        max_body_bytes=limits.max_body_bytes,
        max_batch_body_bytes=limits.max_batch_body_bytes,
        cors_origins=service.args.cors_origins,
        max_job_body_bytes=service.args.largest_job_body,
    )
    return app


def _photos(service: Service) -> APIRouter:
    """Make the routes that take photos."""
    router = APIRouter(tags=["photos"])

    @router.post("/remove-background", openapi_extra=openapi.single(), response_class=Response)
    async def remove_background(request: Request) -> Response:
        """Cut the subject out of one photo: a form with the file `image`, or the photo itself as the body."""
        service.keys.authenticate(request)
        service.check_capacity()
        upload = await read_upload(request, service.limits, max_files=1)
        (image,) = pick_images(upload, _IMAGE_FIELDS, most=1, beside=(BACKGROUND_FIELD, STROKES_FIELD))
        backdrop, strokes = pick_background(upload), pick_strokes(upload)
        model = await service.models.choose(pick_model(upload))
        options = parse_options(upload.fields, has_backdrop=backdrop is not None)
        with service.admitted():
            named = request.headers["x-request-id"]
            return image_response(
                await service.cut(image.data, options, backdrop, strokes, model=model, request_id=named)
            )

    @router.post("/batch-remove-background", openapi_extra=openapi.many(), response_class=Response)
    async def batch_remove_background(request: Request) -> Response:
        """Cut out up to ten photos: a form with several files `images`; one result or one error for each, in order."""
        service.keys.authenticate(request)
        service.check_capacity()
        upload = await read_upload(request, service.limits, max_files=service.limits.max_images)
        images = pick_images(upload, _BATCH_FIELDS, most=service.limits.max_images)
        backdrop = pick_background(upload)
        model = await service.models.choose(pick_model(upload))
        options = parse_options(upload.fields, has_backdrop=backdrop is not None)

        async def one(place: int, image: bytes) -> CutReply | ApiError:
            named = f"{request.headers['x-request-id']}/{place}"
            try:
                return await service.cut(image, options, backdrop, model=model, request_id=named)
            except ApiError as error:
                return error

        with service.admitted(len(images)):
            results = await asyncio.gather(*(one(place, image.data) for place, image in enumerate(images)))
        for result in results:
            if isinstance(result, RequestError):
                raise result
        wants_parts = "multipart/mixed" in request.headers.get("accept", "")
        names = [image.name for image in images]
        return batch_response(results, names, request.headers["x-request-id"], multipart=wants_parts)

    return router


def _state(service: Service) -> APIRouter:
    """Make the routes that tell how things are."""
    router = APIRouter(tags=["state"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Say that the process lives; asks nobody else."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> JSONResponse:
        """Say whether photos are taken: only after the default network has run once, and not while shutting down."""
        if service.draining:
            raise ApiError("not_ready", retry_after_s=service.limits.retry_after_s)
        infos = await service.models.infos()
        info = next(iter(infos.values()))
        body: dict[str, Any] = {"status": info.state, "model": info.name, "swap_error": info.swap_error}
        if service.models.several:
            body["models"] = {name: {"status": one.state, "swap_error": one.swap_error} for name, one in infos.items()}
        return JSONResponse(body, 200 if info.state == "ready" else 503)

    @router.get("/model-info")
    async def model_info(request: Request) -> dict[str, Any]:
        """Name the default model, its hash and licence, and the engine with the reason for it; and list all models."""
        service.keys.authenticate(request)
        infos = await service.models.infos()
        models = {name: asdict(info) for name, info in infos.items()}
        return {**asdict(next(iter(infos.values()))), "version": __version__, "models": models}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Pass on what this node counts, for Prometheus."""
        service.keys.authenticate(request)
        if not service.args.metrics_port:
            raise ApiError("not_found")
        try:
            text = await asyncio.to_thread(_scrape, service.args.metrics_port)
        except OSError as error:
            raise ApiError("unavailable", retry_after_s=service.limits.retry_after_s) from error
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _scrape(port: int) -> bytes:
    """Read this node's metrics from Ray's agent, which listens beside us."""
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the environment's proxy is for others
    with directly.open(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
        text: bytes = answer.read()
    return text
