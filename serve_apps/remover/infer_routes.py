"""The Open Inference Protocol v2, for the networks alone: tensors in, maps of probabilities out.

Source: https://github.com/kserve/open-inference-protocol, and the extension for binary tensor data.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cutray import __version__
from cutray.config import MIB
from serve_apps.remover import openapi
from serve_apps.remover.errors import ApiError
from serve_apps.remover.schemas import InferRequest
from serve_apps.remover.service import Service
from serve_apps.remover.tensors import HEADER_LENGTH, describe_model, picture_bytes, read_header_length
from serve_apps.remover.uploads import read_body

_JSON_TOO_LARGE = (
    "Tensors as JSON have at most {:.4g} MiB ({} bytes) here: send raw bytes behind the JSON, as the protocol's "
    "extension for binary tensor data says, or fewer pictures at once."
)


def infer_router(service: Service) -> APIRouter:
    """Make the routes.

    Args:
        service: The state of the Ingress.
    """
    router = APIRouter(tags=["inference protocol"], prefix="/v2")

    def check(request: Request) -> None:
        service.keys.authenticate(request)

    async def check_ready(name: str) -> None:
        if service.draining or (await service.models.info(name)).state != "ready":
            raise ApiError("not_ready", retry_after_s=service.limits.retry_after_s)

    @router.get("")
    async def server(request: Request) -> dict[str, Any]:
        """Name the server, its version, and the extensions of the protocol that it knows."""
        check(request)
        return {"name": "cutray", "version": __version__, "extensions": ["binary_tensor_data"]}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Say that the process lives; asks nobody else."""
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> dict[str, bool]:
        """Say whether tensors are taken, as `/ready` does."""
        await check_ready("")
        return {"ready": True}

    @router.get("/models/{name}")
    async def model(name: str, request: Request) -> dict[str, Any]:
        """Describe a model's tensors, and how a picture is prepared for it."""
        check(request)
        return describe_model(name, await service.models.info(await service.models.choose(name)))

    @router.get("/models/{name}/ready")
    async def model_ready(name: str, request: Request) -> dict[str, Any]:
        """Say whether a model is loaded."""
        check(request)
        await check_ready(await service.models.choose(name))
        return {"name": name, "ready": True}

    @router.post("/models/{name}/infer", openapi_extra=openapi.infer(), response_class=Response)
    async def infer(name: str, request: Request) -> Response:
        """Run a network on prepared pictures: tensors as JSON, or as raw bytes behind it."""
        check(request)
        service.check_capacity()
        chosen = await service.models.choose(name)
        header_length = read_header_length(request.headers.get(HEADER_LENGTH))
        most_bytes = service.limits.max_tensor_json_bytes

        def check_json(size_bytes: int) -> None:
            if header_length is None and size_bytes > most_bytes:
                raise ApiError("body_too_large", _JSON_TOO_LARGE.format(most_bytes / MIB, most_bytes))

        body = await read_body(request, service.limits, check_json)
        side = (await service.models.info(chosen)).input_size_px
        # Told by the bytes, for nobody has read the tensors yet: pictures as text are longer, and more work.
        with service.admitted(max(1, len(body) // picture_bytes(side))):
            reply = await service.infer(InferRequest(body, header_length, chosen, name))
        if reply.header_length is None:
            return Response(reply.data, media_type="application/json")
        return Response(
            reply.data, media_type="application/octet-stream", headers={HEADER_LENGTH: str(reply.header_length)}
        )

    return router
