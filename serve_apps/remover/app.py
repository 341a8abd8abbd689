"""The builder: the only place where the deployments are bound to each other."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from cutray.config import parse_settings
from serve_apps.check_args import check_args
from serve_apps.jobs.runner import JobRunner
from serve_apps.remover.api import create_api
from serve_apps.remover.cutter import Cutter
from serve_apps.remover.model_names import deployment_of
from serve_apps.remover.schemas import AppArgs, ModelConfig
from serve_apps.remover.segmenter import Segmenter
from serve_apps.remover.service import Service
from serve_apps.rollout.controller import RolloutController

_deployment: Any = serve.deployment  # Ray's types cannot tell its two forms apart
# For a model that the YAML has no entry for; Serve's own queue is endless.
_QUEUE = {"max_ongoing_requests": 32, "max_queued_requests": 64}
_ONE: dict[str, Any] = {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}}
_CONTROL: dict[str, Any] = {**_ONE, "max_ongoing_requests": 100}
_router_config: Any = RequestRouterConfig  # and take the name of a class for its arguments


@serve.ingress()
class Ingress:
    """Takes requests, owns their bytes, and answers. Thin: it computes nothing."""

    def __init__(
        self,
        cutter: DeploymentHandle,
        segmenters: dict[str, DeploymentHandle],
        args: AppArgs,
        rollout: DeploymentHandle | None = None,
        _runner: DeploymentHandle | None = None,  # works by itself; Serve starts what is bound
    ) -> None:
        """Build the service of this replica."""
        self._service = Service(cutter, segmenters, args, rollout)

    def __serve_build_asgi_app__(self) -> Any:
        """Build the application; Serve calls this after the constructor."""
        return create_api(self._service)

    async def drain(self, timeout_s: float) -> int:
        """Take no more photos and wait for those under way; returns how many are left."""
        return await self._service.drain(timeout_s)


def build(args: dict[str, Any]) -> Application:
    """Bind the deployments: one Ingress, one Cutter, a Segmenter for each model, and what jobs and roll-outs need.

    Replicas, queues and timeouts come from the YAML, and so does, in the ``user_config`` of a Segmenter, the address
    behind a model's name.

    Args:
        args: The application's arguments in the YAML: fields of ``AppArgs``.

    Returns:
        What Serve runs.

    Raises:
        ConfigError: An argument is unknown or has a value that is not allowed.
        MissingExtraError: The driver of PostgreSQL is not installed, and the state of jobs is to be kept there.
    """
    parsed = parse_settings(AppArgs, args)
    check_args(parsed)
    segmenters = {name: _segmenter(name, parsed) for name in parsed.models or [""]}
    router = _router_config(request_router_class="serve_apps.remover.edit_router:EditRouter")
    rollout = (
        _deployment(RolloutController, name="RolloutController", **_CONTROL).bind(parsed) if parsed.admin_keys else None
    )
    cutter = _deployment(Cutter, name="Cutter", request_router_config=router).bind(
        segmenters, parsed.limits, rollout, drift=parsed.drift
    )
    runner = _deployment(JobRunner, name="JobRunner", **_ONE).bind(segmenters, parsed) if parsed.jobs.folder else None
    application: Application = _deployment(Ingress, name="Ingress").bind(cutter, segmenters, parsed, rollout, runner)
    return application


def _segmenter(model: str, args: AppArgs) -> Application:
    """Bind the Segmenter of one model; an empty name means the only one."""
    config = ModelConfig(model=model) if model else ModelConfig()
    deployment = _deployment(Segmenter, name=deployment_of(model, args.models), user_config=config.model_dump())
    # A user_config in the YAML takes the place of this one as a whole, so the name goes along by itself.
    bound: Application = deployment.options(**_QUEUE).bind(args.engine, model)
    return bound
