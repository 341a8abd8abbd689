"""The endpoint as a Ray of our own with the application in it: started, waited for, changed and ended."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from cutray.console.ray_setup import local_ray_options, told_when_too_busy
from cutray.errors import CutrayError
from cutray.privacy import disable_ray_reporter
from serve_apps.config_file import application_args, proxy_variables, reachable_host, registry_variables

if TYPE_CHECKING:
    from serve_apps.remover.schemas import ModelInfo

_LOGICAL_CPUS = 8  # Ray's bookkeeping of actors, not of cores; too few would leave replicas waiting forever
_OBJECT_STORE_BYTES = 512 << 20
_START_TIMEOUT_S = 120
_DRAIN_S = 35
_INFO_TIMEOUT_S = 30


class Endpoint:
    """A Ray of our own with the application in it."""

    def __init__(self, client: Any, *, verbose: bool) -> None:
        """Keep Serve's client."""
        self._client = client
        self._verbose = verbose
        self._models: list[str] = []

    def apply(self, config: dict[str, Any]) -> None:
        """Deploy a configuration; where only the model's name differs, it is swapped in place.

        Raises:
            CutrayError: Serve does not take it.
        """
        from ray.exceptions import RayError
        from ray.serve.schema import ServeDeploySchema

        self._models = application_args(config).get("models") or []
        try:
            self._client.deploy_apps(ServeDeploySchema.model_validate(config))
        except RayError as error:
            raise CutrayError(got=f"Ray Serve refused the configuration: {error}", fix="correct the YAML") from error

    def is_running(self) -> bool:
        """Return whether all replicas have the configuration that was applied last.

        Raises:
            CutrayError: The configuration cannot be deployed.
        """
        return _status() == "RUNNING"

    def swap_error(self) -> str | None:
        """Return why a configured model was not loaded, or None.

        Raises:
            CutrayError: No Segmenter answers.
        """
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        from serve_apps.remover.model_names import deployments_of

        failed = []
        for name in deployments_of(self._models):
            segmenter = serve.get_deployment_handle(name, "cutray")
            try:
                info: ModelInfo = segmenter.describe.remote().result(timeout_s=_INFO_TIMEOUT_S)
            except (RayError, RayServeException, TimeoutError) as error:
                raise CutrayError(got=f"no {name} answers: {type(error).__name__}", fix="try again") from error
            if info.swap_error:
                failed.append(f"{info.name}: {info.swap_error}" if len(self._models) > 1 else info.swap_error)
        return ", ".join(failed) or None

    def stop(self) -> None:
        """Let photos under way finish, then end every process that ``start`` started."""
        import ray
        from ray import serve

        try:
            serve.get_app_handle("cutray").drain.remote(_DRAIN_S).result(timeout_s=_DRAIN_S + 5)
        except Exception as error:  # the end comes anyway
            click.echo(f"cutray: did not drain: {type(error).__name__}", err=True)
        with _hushed(self._verbose):
            serve.shutdown()  # type: ignore[no-untyped-call]
            ray.shutdown()


@contextmanager
def _hushed(verbose: bool) -> Iterator[None]:
    """Keep what Ray says about its own end from a person who has just asked for it."""
    if verbose:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    kept = {stream: os.dup(stream.fileno()) for stream in (sys.stdout, sys.stderr)}
    for stream in kept:
        stream.flush()
        os.dup2(nowhere, stream.fileno())
    try:
        yield
    finally:
        for stream, copy in kept.items():
            stream.flush()
            os.dup2(copy, stream.fileno())
            os.close(copy)
        os.close(nowhere)


def start(config: dict[str, Any], *, verbose: bool = False) -> Endpoint:
    """Start Ray and Serve in new processes and deploy the application.

    Args:
        config: From ``load_config``.
        verbose: Show the log of every process.

    Returns:
        The endpoint, which may not be ready yet.
    """
    args = application_args(config)
    os.environ |= proxy_variables(args) | registry_variables(args)
    import ray
    from ray.serve._private.api import serve_start

    disable_ray_reporter()
    with told_when_too_busy():
        ray.init(
            address="local",
            num_cpus=max(_LOGICAL_CPUS, 2 * (os.cpu_count() or 1)),
            include_dashboard=False,
            namespace="serve",
            logging_level=logging.INFO if verbose else logging.ERROR,
            log_to_driver=verbose,
            object_store_memory=_OBJECT_STORE_BYTES,
            **local_ray_options(),
            **({"_metrics_export_port": args["metrics_port"]} if args.get("metrics_port") else {}),
        )
    if not verbose:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # Only this private function takes the same YAML as `serve deploy`; the public one needs Ray's dashboard.
    client = serve_start(http_options=config["http_options"], proxy_location=config.get("proxy_location", "HeadOnly"))
    endpoint = Endpoint(client, verbose=verbose)
    endpoint.apply(config)
    return endpoint


def _status() -> str:
    """Return the status of the application in Serve's words; empty before there is one.

    Raises:
        CutrayError: It cannot be deployed; the message is Serve's.
    """
    from ray import serve

    application = serve.status().applications.get("cutray")
    if application is None:
        return ""
    if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
        details = [deployment.message for deployment in application.deployments.values() if deployment.message]
        raise CutrayError(
            got=f"the endpoint did not start: {' '.join(details or [application.message])[-1500:]}",
            fix="correct what it names; --verbose shows every process's log",
        )
    return str(application.status.value)


def wait_until_ready(host: str, port: int, ended: threading.Event, timeout_s: float = _START_TIMEOUT_S) -> None:
    """Wait until photos are taken, or the program is to end.

    Raises:
        CutrayError: The application does not come up; the message is Serve's.
    """
    import http.client

    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        _status()
        try:
            connection = http.client.HTTPConnection(reachable_host(host), port, timeout=3)
            connection.request("GET", "/ready")
            answer = connection.getresponse()
            if answer.status == 200 and _all_ready(answer.read()):
                return
        except OSError:
            pass
        if ended.wait(0.1):
            return
    raise CutrayError(got=f"the endpoint was not ready within {timeout_s:.0f} s", fix="run it with --verbose")


def _all_ready(body: bytes) -> bool:
    """Return whether an answer of ``/ready`` names no model that is still loading."""
    models = json.loads(body).get("models", {})
    return all(model["status"] == "ready" for model in models.values())
