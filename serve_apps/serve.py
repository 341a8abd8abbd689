"""``cutray serve``: the endpoint on this machine, from a cold start to ready in one command."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cutray.config import EngineSettings
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.run import run
from cutray.errors import CutrayError, MissingExtraError
from cutray.privacy import disable_ray_reporter
from serve_apps.config_file import CONFIG, application_args, check_ports, load_config, with_single_replicas

PROXY_MIDDLEWARE = "serve_apps.remover.request_limits:middlewares"
_LOGICAL_CPUS = 8  # Ray's bookkeeping of actors, not of cores; too few would leave replicas waiting forever
_OBJECT_STORE_BYTES = 512 << 20
_START_TIMEOUT_S = 120
_DRAIN_S = 35


@click.command(cls=GroupedCommand)
@click.option("--host", help="Address to listen on; the YAML's by default, which only this machine can reach.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; the YAML's by default.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Port of Ray's metrics; the YAML's by default.")
@settings_options(EngineSettings)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Another YAML."
)
@click.option("-v", "--verbose", is_flag=True, help="Show the log of every process.")
@requires_extra("serve", "ray", "fastapi", "python_multipart", "yaml")
def serve(
    host: str | None,
    port: int | None,
    metrics_port: int | None,
    config_file: Path | None,
    verbose: bool,
    **options: Any,
) -> int:
    """Serve the HTTP endpoint and its page.

    \b
    cutray serve                          http://127.0.0.1:8000, this machine only
    cutray serve --port 9000 -m u2netp    another port, the small model
    cutray serve --host 0.0.0.0           everybody who can reach this machine

    Ctrl+C lets photos that are under way finish. SIGHUP reads the YAML again and swaps the model in place.
    """
    started = time.monotonic()
    prepare_environment(verbose=verbose)

    def read() -> dict[str, Any]:
        return load_config(
            config_file or CONFIG, host=host, port=port, metrics_port=metrics_port, engine=given(options)
        )

    config = read()
    listen = config["http_options"]
    check_ports(config)
    # Photos are taken as soon as there is one replica of each kind; the others come while it works.
    endpoint = start(with_single_replicas(config), verbose=verbose)
    try:
        wait_until_ready(listen["host"], listen["port"])
        endpoint.apply(config)
        shown = "127.0.0.1" if listen["host"] == "0.0.0.0" else listen["host"]  # noqa: S104 (compared, not bound)
        click.echo(f"ready in {time.monotonic() - started:.1f} s: http://{shown}:{listen['port']}", err=True)
        click.echo("the page is at /, the description of all addresses at /docs; Ctrl+C ends", err=True)
        _wait_for_the_end(lambda: endpoint.apply(read()))
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
    if os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
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
    from serve_apps.remover.schemas import BATCH_VARIABLE, BODY_VARIABLE, Limits

    limits = Limits(**args.get("limits", {}))
    return {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": PROXY_MIDDLEWARE,
        BODY_VARIABLE: str(limits.max_body_bytes),
        BATCH_VARIABLE: str(limits.max_batch_body_bytes),
    }


class Endpoint:
    """A Ray of our own with the application in it."""

    def __init__(self, client: Any, *, verbose: bool) -> None:
        """Keep Serve's client."""
        self._client = client
        self._verbose = verbose

    def apply(self, config: dict[str, Any]) -> None:
        """Deploy a configuration; where only the model's name differs, it is swapped in place."""
        from ray.serve.schema import ServeDeploySchema

        self._client.deploy_apps(ServeDeploySchema.model_validate(config))

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
    os.environ |= proxy_variables(args)
    import ray
    from ray.serve._private.api import serve_start

    disable_ray_reporter()
    ray.init(
        address="local",
        num_cpus=max(_LOGICAL_CPUS, 2 * (os.cpu_count() or 1)),
        include_dashboard=False,
        namespace="serve",
        logging_level=logging.INFO if verbose else logging.ERROR,
        log_to_driver=verbose,
        object_store_memory=_OBJECT_STORE_BYTES,
        **({"_metrics_export_port": args["metrics_port"]} if args.get("metrics_port") else {}),
    )
    if not verbose:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # Only this private function takes the same YAML as `serve deploy`; the public one needs Ray's dashboard.
    client = serve_start(http_options=config["http_options"], proxy_location=config.get("proxy_location", "HeadOnly"))
    endpoint = Endpoint(client, verbose=verbose)
    endpoint.apply(config)
    return endpoint


def wait_until_ready(host: str, port: int, timeout_s: float = _START_TIMEOUT_S) -> None:
    """Wait until photos are taken.

    Raises:
        CutrayError: The application does not come up; the message is Serve's.
    """
    import http.client

    from ray import serve

    shown = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 (compared, not bound)
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        application = serve.status().applications.get("cutray")
        if application is not None and application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            details = [deployment.message for deployment in application.deployments.values() if deployment.message]
            raise CutrayError(got=f"the endpoint did not start: {' '.join(details or [application.message])[-1500:]}")
        try:
            connection = http.client.HTTPConnection(shown, port, timeout=3)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise CutrayError(got=f"the endpoint was not ready within {timeout_s:.0f} s", fix="run it with --verbose")


def _wait_for_the_end(reload: Any) -> None:
    """Sleep until a signal ends the program; SIGHUP reads the YAML again."""
    ended, again = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    signal.signal(signal.SIGHUP, lambda *_: again.set())
    while not ended.wait(0.2):
        if again.is_set():
            again.clear()
            try:
                reload()
                click.echo("the configuration was read again", err=True)
            except CutrayError as error:
                click.echo(f"cutray: kept the old configuration: {error}", err=True)


if __name__ == "__main__":
    sys.exit(run(serve))
