"""The builder: the only place where the deployments are bound to each other."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from cutray.config import parse_settings
from serve_apps.jobs.runner import JobRunner
from serve_apps.remover.api import create_api
from serve_apps.remover.cutter import Cutter
from serve_apps.remover.schemas import AppArgs, ModelConfig
from serve_apps.remover.segmenter import Segmenter
from serve_apps.remover.service import Service

_deployment: Any = serve.deployment  # Ray's types cannot tell its two forms apart
_ONE: dict[str, Any] = {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}}
_router_config: Any = RequestRouterConfig  # and take the name of a class for its arguments


@serve.ingress()
class Ingress:
    """Takes requests, owns their bytes, and answers. Thin: it computes nothing."""

    def __init__(
        self,
        cutter: DeploymentHandle,
        segmenter: DeploymentHandle,
        args: AppArgs,
        _runner: DeploymentHandle | None = None,  # works by itself; Serve starts what is bound
    ) -> None:
        """Build the service of this replica."""
        self._service = Service(cutter, segmenter, args)

    def __serve_build_asgi_app__(self) -> Any:
        """Build the application; Serve calls this after the constructor."""
        return create_api(self._service)

    async def drain(self, timeout_s: float) -> int:
        """Take no more photos and wait for those under way; returns how many are left."""
        return await self._service.drain(timeout_s)


def build(args: dict[str, Any]) -> Application:
    """Bind the deployments. Replicas, queues and timeouts come from the YAML.

    Args:
        args: The application's arguments in the YAML: fields of ``AppArgs``.

    Returns:
        What Serve runs.

    Raises:
        ConfigError: An argument is unknown or has a value that is not allowed.
    """
    parsed = parse_settings(AppArgs, args)
    segmenter = _deployment(Segmenter, name="Segmenter", user_config=ModelConfig().model_dump()).bind(parsed.engine)
    router = _router_config(request_router_class="serve_apps.remover.edit_router:EditRouter")
    cutter = _deployment(Cutter, name="Cutter", request_router_config=router).bind(segmenter, parsed.limits)
    runner = _deployment(JobRunner, name="JobRunner", **_ONE).bind(segmenter, parsed) if parsed.jobs.folder else None
    application: Application = _deployment(Ingress, name="Ingress").bind(cutter, segmenter, parsed, runner)
    return application
