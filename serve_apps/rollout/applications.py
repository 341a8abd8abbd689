"""What a roll-out does with Serve: loads a challenger as an application of its own, takes it away, swaps the champion.

The challenger's application does not touch the champion's: no replica of it starts anew. When the YAML is applied
again, Serve keeps an application that was started from code.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from cutray.errors import CutrayError
from serve_apps.remover.model_names import DEFAULT_DEPLOYMENT, deployment_of
from serve_apps.remover.schemas import AppArgs, ModelConfig, ModelInfo
from serve_apps.remover.segmenter import Segmenter
from serve_apps.rollout.records import PREFIX, name_of

# Of the champion's deployment, what the challenger has as well; replicas are its own.
_SHARED = ("max_ongoing_requests", "max_queued_requests", "health_check_period_s", "health_check_timeout_s")
_RESOURCES = ("num_cpus", "num_gpus", "resources", "accelerator_type", "memory")
_DEFAULTS: dict[str, Any] = {"max_ongoing_requests": 32, "max_queued_requests": 64}
_STOP_AFTER_S = 5.0  # a network that hangs is not waited for
_ANSWER_S = 10.0
_SWAP_S, _POLL_S = 300.0, 0.5
_LOOKS, _LINGERS_S = 4, 10.0
_deployment: Any = serve.deployment  # Ray's types cannot tell its two forms apart


def load_challenger(rollout_id: str, model: str, challenges: str, args: AppArgs, app: str, replicas: int) -> None:
    """Start a challenger; returns before it is loaded.

    Args:
        rollout_id: Names its application.
        model: Its address.
        challenges: The served model whose batches, queues and resources it gets; empty where only one is served.
        args: Arguments of the endpoint's application.
        app: Name of that.
        replicas: How many replicas the challenger has.
    """
    like = _entry(_config(app), deployment_of(challenges, args.models)) or _entry(_config(app), DEFAULT_DEPLOYMENT)
    options = {**_DEFAULTS, **({name: like[name] for name in _SHARED if name in like} if like else {})}
    actor = {k: v for k, v in ((like or {}).get("ray_actor_options") or {}).items() if k in _RESOURCES}
    network = {**((like or {}).get("user_config") or {}), "model": model}
    network.pop("sha256", None)
    bound = (
        _deployment(Segmenter, name=DEFAULT_DEPLOYMENT)
        .options(
            num_replicas=replicas,
            user_config=ModelConfig.model_validate(network).model_dump(),
            ray_actor_options=actor or {"num_cpus": 1},
            max_constructor_retry_count=replicas,
            graceful_shutdown_timeout_s=_STOP_AFTER_S,
            **options,
        )
        .bind(args.engine, model)
    )
    target = serve.RunTarget(target=bound, name=name_of(rollout_id), route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)


def status_of(app: str) -> tuple[str, str]:
    """Return an application's status in Serve's words, empty where there is none, and why it is not well."""
    application = serve.status().applications.get(app)
    if application is None:
        return "", ""
    told = [deployment.message for deployment in application.deployments.values() if deployment.message]
    return str(application.status.value), " ".join((" ".join(told) or application.message).split())


def unload_challengers(*, but: str = "") -> None:
    """Take all challengers away.

    Args:
        but: Id of the roll-out whose challenger stays.
    """
    stays = name_of(but) if but else ""
    names = [name for name in serve.status().applications if name.startswith(PREFIX) and name != stays]
    for name in names:
        serve.delete(name, _blocking=False)


def describe(rollout_id: str) -> ModelInfo:
    """Ask a challenger what it runs.

    Raises:
        CutrayError: It does not answer.
    """
    return _ask(_handle(name_of(rollout_id), DEFAULT_DEPLOYMENT))


def _handle(app: str, deployment: str) -> DeploymentHandle:
    """Return the way to a deployment, which need not be there."""
    handle: DeploymentHandle = serve.get_deployment_handle(deployment, app, _check_exists=False)
    return handle


def _ask(segmenter: DeploymentHandle) -> ModelInfo:
    """Ask a Segmenter what it runs."""
    try:
        info: ModelInfo = segmenter.describe.remote().result(timeout_s=_ANSWER_S)
    except (RayError, RayServeException, TimeoutError) as error:
        raise CutrayError(got=f"no Segmenter answers: {type(error).__name__}", fix="try again") from error
    return info


def swap_champion(app: str, deployment: str, model: str, sha256: str) -> None:
    """Put a model in the place of the champion, in place: no replica starts anew.

    Args:
        app: Name of the endpoint's application.
        deployment: The champion's Segmenters.
        model: Address of the new one.
        sha256: Identity of its network.

    Raises:
        CutrayError: The endpoint was not deployed from a YAML, or a replica did not take the model; then the old one is
            back.
    """
    configs = _configs()
    config = configs.get(app)
    if config is None:
        raise CutrayError(
            got="the endpoint was not deployed from a YAML, so its model cannot be changed while it runs",
            allowed="endpoints of `cutray serve` and `serve deploy`",
            fix="deploy it with the new model",
        )
    entry = next((one for one in config.deployments if one.name == deployment), None)
    if entry is None:
        entry = DeploymentSchema(name=deployment)
        config.deployments = [*config.deployments, entry]
    segmenter = _handle(app, deployment)
    before, old_error = dict(entry.user_config or {}), _ask(segmenter).swap_error
    entry.user_config = {**before, "model": model, "sha256": sha256}
    _apply(configs)
    if problem := _until_swapped(app, segmenter, sha256, old_error):
        entry.user_config = before
        _apply(configs)
        raise CutrayError(got=f"the champion's replicas did not take {model}: {problem}", fix="see their logs")


def _until_swapped(app: str, segmenter: DeploymentHandle, sha256: str, old_error: str | None) -> str:
    """Wait until the replicas run a model; returns what is wrong, or nothing. An older error may linger."""
    started, seen = time.monotonic(), {"no answer"}
    while (spent_s := time.monotonic() - started) < _SWAP_S:
        time.sleep(_POLL_S)
        try:
            infos = [_ask(segmenter) for _ in range(_LOOKS)]  # each look may see another replica
        except CutrayError:
            continue
        errors = [info.swap_error for info in infos if info.swap_error]
        if errors and (errors[0] != old_error or spent_s > _LINGERS_S):
            return errors[0]
        seen = {info.identity for info in infos}
        if not errors and seen == {sha256} and status_of(app)[0] == "RUNNING":
            return ""
    return f"they run {', '.join(sorted(seen))}"


def _apply(configs: dict[str, ServeApplicationSchema]) -> None:
    """Deploy all configurations again; where only a ``user_config`` differs, replicas are told in place."""
    client = _client()
    capacity = ray.get(client._controller.get_serve_instance_details.remote())["target_capacity"]
    client.deploy_apps(ServeDeploySchema(applications=list(configs.values()), target_capacity=capacity))


def _configs() -> dict[str, ServeApplicationSchema]:
    """Return what was deployed from YAML, by the names of the applications.

    Serve has no public function for it; Ray's dashboard, which has an address for it, need not run.
    """
    found: dict[str, ServeApplicationSchema] = ray.get(_client()._controller.get_app_configs.remote())
    return found


def _client() -> Any:
    """Return Serve's own client of this process."""
    return _get_global_client()


def _config(app: str) -> ServeApplicationSchema | None:
    """Return an application's configuration, or None where it was not deployed from a YAML."""
    return _configs().get(app)


def _entry(config: ServeApplicationSchema | None, name: str) -> dict[str, Any] | None:
    """Return what a configuration says of a deployment, or None."""
    entries = config.deployments if config is not None else []
    return next((one.model_dump(exclude_unset=True) for one in entries if one.name == name), None)
