"""The addresses of jobs. Thin: each checks the key, asks the store and answers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from serve_apps.jobs import openapi
from serve_apps.jobs.database import DatabaseError
from serve_apps.jobs.intake import JobIntake
from serve_apps.jobs.records import ENDED, JobState
from serve_apps.jobs.replies import event_body, job_body, photo_body, stream_zip
from serve_apps.jobs.spool import Spool
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.webhooks import secret_of
from serve_apps.remover.errors import ApiError, error_response
from serve_apps.remover.responses import ENDINGS, MEDIA, disposition
from serve_apps.remover.service import Service

_LOG = logging.getLogger("ray.serve")
_PAGE, _LONGEST_PAGE = 100, 1000
_MEDIA_OF = {ending: MEDIA[name] for name, ending in ENDINGS.items()}
_PATIENCE_S = 5.0  # for a busy database; less than Serve's own patience leaves after an upload
_PRIVATE = {"Cache-Control": "no-store"}


class _Desk:
    """What all routes need: settings, store, and who is asking."""

    def __init__(self, service: Service) -> None:
        self.service, self.settings = service, service.args.jobs
        self.store = JobStore(self.settings, _PATIENCE_S)

    def check(self, request: Request) -> str:
        """Return the name of the API key, or refuse."""
        owner = self.service.keys.authenticate(request)
        if not self.settings.folder:
            raise ApiError("not_found", "This endpoint takes no jobs: it was started without a folder for them.")
        return owner

    async def find(self, job_id: str, owner: str) -> dict[str, Any]:
        """Return a job of an owner."""
        job = await asyncio.to_thread(self.store.get, job_id, owner) if job_id.isprintable() else None
        if job is None:
            raise ApiError("job_not_found")
        return job

    async def answer(self, job: dict[str, Any], status: int = 200, **more: Any) -> JSONResponse:
        """Tell how a job stands."""
        progress = await asyncio.to_thread(self.store.progress, job)
        return JSONResponse(job_body(job, progress) | more, status, headers=_PRIVATE)


def jobs_router(service: Service) -> APIRouter:
    """Make the routes.

    Args:
        service: The state of the Ingress.

    Raises:
        ConfigError: A list of addresses in the configuration is malformed.
    """
    router = APIRouter(tags=["jobs"], prefix="/jobs")
    desk = _Desk(service)
    _add_sending(router, desk)
    _add_following(router, desk)
    return router


def install_database_handler(app: FastAPI, retry_after_s: int) -> None:
    """Answer 503 where the database of jobs is busy or away.

    Args:
        app: The application.
        retry_after_s: When clients are told to come back.
    """

    async def on_database_error(request: Request, error: Exception) -> Response:
        _LOG.error("the database of jobs failed", exc_info=error)
        told = ApiError("unavailable", "The database of jobs is busy or away.", retry_after_s=retry_after_s)
        request.state.error_code = told.code
        return error_response(told, request.scope)

    app.add_exception_handler(DatabaseError, on_database_error)


def _add_sending(router: APIRouter, desk: _Desk) -> None:
    """Add the routes that do not name a job."""
    intake = JobIntake(desk.settings, desk.store, desk.service.models.choose)

    @router.post("", openapi_extra=openapi.begin(desk.settings.max_photos), status_code=202)
    async def begin(request: Request) -> Response:
        """Send photos, a ZIP or addresses as a job, which is done later."""
        owner = desk.check(request)
        if desk.service.draining:
            raise ApiError("not_ready", retry_after_s=desk.service.limits.retry_after_s)
        taken = await intake.receive(request, owner)
        # Nothing is awaited from here on: a job that was written down is told.
        address = f"{request.url.path.rstrip('/')}/{taken.row['id']}"
        headers = {**_PRIVATE, "Location": address, **({"Idempotent-Replayed": "true"} if taken.replayed else {})}
        return JSONResponse(job_body(taken.row, taken.progress) | {"status_url": address}, 202, headers=headers)

    @router.get("", openapi_extra=openapi.listing())
    async def listing(request: Request) -> Response:
        """List one's own jobs, the newest first."""
        owner = desk.check(request)
        offset, limit = _page(request)
        jobs = await asyncio.to_thread(desk.store.list_jobs, owner, offset, limit)
        progress = await asyncio.to_thread(lambda: [desk.store.progress(job) for job in jobs])
        bodies = [job_body(job, state) for job, state in zip(jobs, progress, strict=True)]
        return JSONResponse({"jobs": bodies, "next": _next(request, offset, limit, len(jobs))}, headers=_PRIVATE)

    @router.get("/webhook-secret", openapi_extra=openapi.secret())
    async def webhook_secret(request: Request) -> Response:
        """Fetch the secret that webhooks of this API key are signed with."""
        owner = desk.check(request)
        secret = await asyncio.to_thread(secret_of, desk.settings.folder, owner)
        return JSONResponse({"secret": secret}, headers=_PRIVATE)


def _add_following(router: APIRouter, desk: _Desk) -> None:
    """Add the routes that name a job."""

    @router.get("/{job_id}", openapi_extra=openapi.status())
    async def status(job_id: str, request: Request) -> Response:
        """Tell how a job stands, with a page of its photos."""
        job = await desk.find(job_id, desk.check(request))
        offset, limit = _page(request)
        photos = await asyncio.to_thread(desk.store.photos, job_id, offset, limit)
        rows = [photo_body(photo, job) for photo in photos]
        event = await asyncio.to_thread(desk.store.event_of, job_id) if job["webhook"] else None
        told = {"state": event["state"], "attempts": event["attempts"], "id": event["id"]} if event else None
        return await desk.answer(
            job, results=rows, next=_next(request, offset, limit, len(photos)), webhook_delivery=told
        )

    @router.get("/{job_id}/results/{file:path}", openapi_extra=openapi.result(), response_class=Response)
    async def result(job_id: str, file: str, request: Request) -> Response:
        """Fetch one result, as soon as it is there."""
        job = await desk.find(job_id, desk.check(request))
        photo = await asyncio.to_thread(desk.store.photo, job_id, file) if file.isprintable() else None
        if photo is not None and photo["status"] == "pending" and job["state"] not in ENDED:
            raise ApiError("job_running")
        path = Spool.of(desk.settings.folder, job_id).results / photo["output"] if photo and photo["output"] else None
        if path is None or not await asyncio.to_thread(path.is_file):
            raise ApiError("job_not_found")
        headers = _PRIVATE | {"Content-Disposition": disposition(file.rpartition("/")[2])}
        return FileResponse(path, media_type=_MEDIA_OF.get(file.rpartition(".")[2]), headers=headers)

    @router.get("/{job_id}/results.zip", openapi_extra=openapi.archive(), response_class=Response)
    async def archive(job_id: str, request: Request) -> Response:
        """Fetch the results of a job that has ended as a ZIP."""
        job = await desk.find(job_id, desk.check(request))
        if job["state"] not in ENDED:
            raise ApiError("job_running", "The job has not ended yet.")
        offset, limit = _page(request, whole=job["photos"])
        photos = await asyncio.to_thread(desk.store.photos, job_id, offset, limit)
        folder = Spool.of(desk.settings.folder, job_id).results
        files = [(photo["file"], folder / photo["output"]) for photo in photos if photo["output"]]
        rows = [photo_body(photo, job) for photo in photos]
        headers = _PRIVATE | {"Content-Disposition": disposition(f"{job_id}.zip")}
        return StreamingResponse(stream_zip(files, rows), media_type="application/zip", headers=headers)

    @router.delete("/{job_id}", openapi_extra=openapi.cancel(), status_code=202)
    async def cancel(job_id: str, request: Request) -> Response:
        """Cancel a job; with `purge=true`, delete one that has ended."""
        job = await desk.find(job_id, desk.check(request))
        if request.query_params.get("purge", "").lower() in ("true", "1"):
            if job["state"] not in ENDED:
                raise ApiError("job_running", "The job has not ended yet: cancel it first.")
            await asyncio.to_thread(desk.store.expire, job_id)
            return Response(status_code=204)
        state = await asyncio.to_thread(desk.store.cancel, job_id, event_body)
        if state is None:
            raise ApiError("job_ended")
        if state == JobState.CANCELLED:  # it had not begun, so that nobody else deletes its photos
            await asyncio.to_thread(Spool.of(desk.settings.folder, job_id).drop_input)
        return await desk.answer(await desk.find(job_id, job["owner"]), 202)


def _page(request: Request, whole: int | None = None) -> tuple[int, int]:
    """Read ``offset`` and ``limit``; with ``whole`` as many are taken unless the client wants fewer."""
    values = []
    for name, default, most in (("offset", 0, 10**9), ("limit", whole or _PAGE, whole or _LONGEST_PAGE)):
        text = request.query_params.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ApiError("bad_option", f"{name} = {text[:60]!r}: allowed is a whole number.")
        values.append(min(int(text), most))
    return values[0], max(1, values[1])


def _next(request: Request, offset: int, limit: int, found: int) -> str | None:
    """Return the address of the next page, or None where this one is the last."""
    return f"{request.url.path}?offset={offset + limit}&limit={limit}" if found == limit else None
