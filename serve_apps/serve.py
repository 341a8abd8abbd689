"""``cutray serve``: the endpoint on this machine, from a cold start to ready in one command."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutray.config import EngineSettings
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.ray_setup import local_ray_options, set_local_token, told_when_too_busy
from cutray.console.run import run
from cutray.errors import CutrayError, MissingExtraError
from cutray.privacy import disable_ray_reporter
from serve_apps.config_file import (
    CONFIG,
    SHIPPED,
    application_args,
    check_model,
    check_ports,
    load_config,
    reachable_host,
    registry_variables,
    shown_address,
    with_single_replicas,
)
from serve_apps.drift.options import lay_over, sample_options, take_sample_options
from serve_apps.reload import Reloader
from serve_apps.remover.tracing import check_tracing
from serve_apps.signals import Signals

if TYPE_CHECKING:
    from serve_apps.remover.schemas import ModelInfo

PROXY_MIDDLEWARE = "serve_apps.remover.request_limits:middlewares"
_LOGICAL_CPUS = 8  # Ray's bookkeeping of actors, not of cores; too few would leave replicas waiting forever
_OBJECT_STORE_BYTES = 512 << 20
_START_TIMEOUT_S = 120
_DRAIN_S = 35
_INFO_TIMEOUT_S = 30


@click.command(cls=GroupedCommand)
@click.option("--host", help="Address to listen on; the YAML's by default, which only this machine can reach.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; the YAML's by default.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Port of Ray's metrics; the YAML's by default.")
@click.option("--jobs", type=click.Path(file_okay=False), help="Folder for asynchronous jobs, which are taken then.")
@sample_options
@settings_options(EngineSettings)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Another YAML."
)
@click.option(
    "--print-config",
    type=click.Choice(list(SHIPPED)),
    help="Write the YAML that is shipped for one machine, or for a cluster, to be changed and used with --config, and "
    "stop.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the log of every process.")
@requires_extra("serve", "ray", "fastapi", "python_multipart", "yaml")
def serve(
    host: str | None,
    port: int | None,
    metrics_port: int | None,
    jobs: str | None,
    config_file: Path | None,
    print_config: str | None,
    verbose: bool,
    **options: Any,
) -> int:
    """Serve the HTTP endpoint and its page.

    \b
    cutray serve                          http://127.0.0.1:8000, this machine only
    cutray serve --port 9000 -m u2netp    another port, the small model
    cutray serve --host 0.0.0.0           everybody who can reach this machine
    cutray serve --print-config local > my.yaml   all limits and replicas, to change them and use them with --config

    Ctrl+C lets photos that are under way finish. SIGHUP reads the YAML again and swaps the model in place.
    """
    if print_config is not None:
        click.echo(SHIPPED[print_config].read_text(encoding="utf-8"), nl=False)
        return 0
    started = time.monotonic()
    signals = Signals()
    prepare_environment(verbose=verbose)
    from serve_apps.check_args import check_state

    samples, say = take_sample_options(options), partial(click.echo, err=True)

    def read() -> dict[str, Any]:
        config = load_config(
            config_file or CONFIG, host=host, port=port, metrics_port=metrics_port, jobs=jobs, engine=given(options)
        )
        config = lay_over(config, samples)
        check_state(application_args(config))
        check_model(config)
        return config

    check_tracing()
    config = read()
    listen = config["http_options"]
    check_ports(config)
    # Photos are taken as soon as there is one replica of each kind; the others come while it works.
    endpoint = start(with_single_replicas(config), verbose=verbose)
    try:
        signals.catch_end()
        wait_until_ready(listen["host"], listen["port"], signals.ended)
        if signals.ended.is_set():
            return 0
        endpoint.apply(config)
        say(f"ready in {time.monotonic() - started:.1f} s: {shown_address(listen)}")
        say("the page is at /, the description of all addresses at /docs; Ctrl+C ends")
        signals.wait(Reloader(endpoint, config, read, say, signals.ended).reload)
    finally:
        endpoint.stop()
    return 0


def prepare_environment(*, verbose: bool = False) -> None:
    """Set what Ray reads when it is imported: a token of our own, so that no other program can join.

    Args:
        verbose: Show the log of every process.

    Raises:
        MissingExtraError: Ray Serve is not installed.
    """
    for name, value in (
        ("RAY_AUTH_MODE", "token"),
        ("RAY_worker_niceness", "0"),  # Ray makes its workers give way to everything else; here they are the point
        ("RAY_SERVE_LOG_TO_STDERR", "1" if verbose else "0"),
    ):
        os.environ.setdefault(name, value)
    set_local_token()
    for module in ("ray.serve", "python_multipart", "yaml"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingExtraError(
                got="Ray Serve is not installed", fix="run `pip install 'cutray[serve]'`"
            ) from error


def proxy_variables(args: dict[str, Any]) -> dict[str, str]:
    """Return what puts the request limits on Serve's proxies; the processes of a cluster must have it from their start.

    Args:
        args: The application's arguments in the YAML: fields of ``AppArgs``.
    """
    from serve_apps.remover.schemas import BATCH_VARIABLE, BODY_VARIABLE, JOB_VARIABLE, ORIGINS_VARIABLE, AppArgs

    parsed = AppArgs(**{name: args[name] for name in ("limits", "jobs") if args.get(name)})
    limits = parsed.limits
    return {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": PROXY_MIDDLEWARE,
        BODY_VARIABLE: str(limits.max_body_bytes),
        BATCH_VARIABLE: str(limits.max_batch_body_bytes),
        JOB_VARIABLE: str(parsed.largest_job_body),
        **({ORIGINS_VARIABLE: " ".join(origins)} if (origins := args.get("cors_origins")) else {}),
    }


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


if __name__ == "__main__":
    sys.exit(run(serve))
