"""``cutray serve``: the endpoint on this machine, from a cold start to ready in one command."""

from __future__ import annotations

import importlib
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from cutray.config import EngineSettings
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.ray_setup import set_local_token
from cutray.console.run import run
from cutray.errors import MissingExtraError
from serve_apps.config_file import (
    CONFIG,
    SHIPPED,
    application_args,
    check_model,
    check_ports,
    load_config,
    shown_address,
    with_single_replicas,
)
from serve_apps.drift.options import lay_over, sample_options, take_sample_options
from serve_apps.endpoint import start, wait_until_ready
from serve_apps.reload import Reloader
from serve_apps.remover.tracing import check_tracing
from serve_apps.signals import Signals


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

    One network serves all requests, whatever their quality: that of -m, else that of the YAML (u2net-lean).

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


if __name__ == "__main__":
    sys.exit(run(serve))
