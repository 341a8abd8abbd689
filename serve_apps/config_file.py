"""Reads a Serve configuration, lays the command line over it, and checks all of it before anything starts."""

from __future__ import annotations

import copy
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutray.errors import ConfigError
from cutray.regular_file import read_text

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

# The YAML that is shipped, for one machine and for a cluster.
SHIPPED = {kind: Path(__file__).with_name(f"remover.{kind}.yaml") for kind in ("local", "prod")}
CONFIG = SHIPPED["local"]
# What Serve listens on where the YAML does not say.
_HOST, _PORT = "127.0.0.1", 8000
PROXY_MIDDLEWARE = "serve_apps.remover.request_limits:middlewares"


def load_config(
    path: Path,
    *,
    host: str | None,
    port: int | None,
    engine: dict[str, Any],
    metrics_port: int | None = None,
    jobs: str | None = None,
) -> dict[str, Any]:
    """Read the YAML, lay the command line over it, and check all of it.

    Args:
        path: The YAML.
        host: Address instead of the YAML's.
        port: Port instead of the YAML's.
        engine: Fields of ``EngineSettings`` instead of the YAML's; the model goes to the Segmenter.
        metrics_port: Port of Ray's metrics instead of the YAML's.
        jobs: Folder for jobs instead of the YAML's.

    Returns:
        A complete Serve configuration.

    Raises:
        ConfigError: A key is unknown or a value is not allowed.
        MissingExtraError: The driver of PostgreSQL is not installed, and the state of jobs is to be kept there.
        WeightsError: The model is one of a registry, and cannot be found there.
    """
    from cutray.config import parse_settings
    from cutray.config.paths import absolute_model, absolute_path
    from serve_apps.check_args import check_args
    from serve_apps.remover.model_names import DEFAULT_DEPLOYMENT
    from serve_apps.remover.schemas import AppArgs, ModelConfig
    from serve_apps.several_models import lay_out_models

    try:
        config: dict[str, Any] = _read(path)
        (application,) = config["applications"]
        deployments = {entry["name"]: entry for entry in application["deployments"]}
        # A key without a value is empty: everything below it may be commented out.
        default = deployments[DEFAULT_DEPLOYMENT]
        for part, name in ((config, "http_options"), (application, "args"), (default, "user_config")):
            part[name] = {**(part.get(name) or {})}
        network, http, args = default["user_config"], config["http_options"], application["args"]
        args |= {name: {**(args.get(name) or {})} for name in ("engine", "limits", "jobs", "drift") if name in args}
        http |= {"host": host or http.get("host") or _HOST, "port": port or http.get("port") or _PORT}
        http |= _quoted_numbers(http, _check(config, path))
        engine = dict(engine)
        if "model" in engine:
            model = engine.pop("model")
            network["model"] = str(Path(model).resolve()) if os.path.isfile(model) else absolute_model(model)
        if metrics_port is not None:
            args["metrics_port"] = metrics_port
        args["engine"] = {**args.get("engine", {}), **engine}
        if jobs is not None:
            args["jobs"] = {**args.get("jobs", {}), "folder": jobs}
        parse_settings(AppArgs, args)  # first, for what follows relies on types
        for entry in deployments.values():
            if entry["name"].startswith(DEFAULT_DEPLOYMENT):
                parse_settings(ModelConfig, entry.get("user_config") or {})
        lay_out_models(application, path.resolve().parent)
        if (args.get("jobs") or {}).get("folder"):
            args["jobs"]["folder"] = absolute_path(args["jobs"]["folder"])  # replicas have another working folder
        check_args(parse_settings(AppArgs, args), http.get("request_timeout_s"))
        for network in _networks(config):
            parse_settings(ModelConfig, network)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            got=f"{path} is no configuration of the endpoint",
            allowed="one application with deployments, one of which is named Segmenter",
            fix="start from what `cutray serve --print-config local` prints",
        ) from error
    return config


def _read(path: Path) -> Any:
    """Return what is in the YAML.

    Raises:
        ConfigError: It cannot be read, or is no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except OSError as error:
        raise ConfigError(got=f"cannot read {path}: {error.strerror}", fix="correct the path, or its rights") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(got=f"{path} is no YAML: {problem}", fix="correct it there") from error


def check_model(config: dict[str, Any]) -> None:
    """Make sure that the models are known and their weights are on this machine; they are fetched if need be.

    Args:
        config: From ``load_config``. The hash of the weights is noted in it, so that it differs once they do.

    Raises:
        WeightsError: They cannot be had, or are not what they should be.
    """
    from cutray.config import parse_settings
    from cutray.models.weights import resolve
    from serve_apps.remover.schemas import ModelConfig

    offline = bool(application_args(config)["engine"].get("offline", False))
    for network in _networks(config):
        wanted = parse_settings(ModelConfig, network)
        weights = resolve(wanted.model, offline=offline)
        wanted.check(weights)
        network["sha256"] = weights.identity


def _networks(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the user_config of each Segmenter deployment, fields of ``ModelConfig``."""
    from serve_apps.remover.model_names import deployments_of

    (application,) = config["applications"]
    known = deployments_of(application["args"].get("models") or ())
    return [entry["user_config"] for entry in application["deployments"] if entry["name"] in known]


def _check(config: dict[str, Any], path: Path) -> ServeDeploySchema:
    """Check the whole against Serve's schema, which itself overlooks unknown keys of a deployment."""
    from pydantic import ValidationError
    from ray.serve.schema import DeploymentSchema, ServeDeploySchema

    for application in config["applications"]:
        for entry in application["deployments"]:
            if unknown := sorted(set(entry) - set(DeploymentSchema.model_fields)):
                raise ConfigError(
                    got=f"{path}: deployment {entry['name']} has unknown keys {', '.join(unknown)}",
                    allowed=", ".join(DeploymentSchema.model_fields),
                    fix="correct the spelling",
                )
    try:
        return ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(got=f"{path}: {problems}", allowed="Ray Serve's configuration file") from error


def _quoted_numbers(http: dict[str, Any], schema: ServeDeploySchema) -> dict[str, Any]:
    """Return numbers of ``http_options`` that were written as text; Serve takes them, and so do we."""
    read = schema.http_options.model_dump()
    return {name: read[name] for name in http.keys() & read.keys() if isinstance(http[name], str)}


def with_single_replicas(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with a single replica of each deployment whose number is fixed.

    Args:
        config: From ``load_config``; it stays as it is.
    """
    small = copy.deepcopy(config)
    for entry in small["applications"][0]["deployments"]:
        if isinstance(entry.get("num_replicas"), int):  # "auto" goes with autoscaling, which has a least number
            entry["num_replicas"] = 1
    return small


def check_ports(config: dict[str, Any]) -> None:
    """Make sure that the ports are free, before anything is started.

    Raises:
        ConfigError: Somebody listens on one, or the address is not this machine's.
    """
    listen = config["http_options"]
    wanted = [
        (listen["host"], listen["port"], "--port"),
        ("127.0.0.1", application_args(config).get("metrics_port"), "metrics_port"),
    ]
    for host, port, option in wanted:
        if not port:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise ConfigError(
                    got=f"cannot listen on {host}:{port}: {error.strerror}",
                    allowed="a free port of this machine",
                    fix=f"end the other program, or choose another {option}",
                ) from error


def reachable_host(host: str) -> str:
    """Return the address at which this machine itself reaches an endpoint that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def shown_address(listen: dict[str, Any]) -> str:
    """Write the address of an endpoint for people, from its ``http_options``."""
    host = reachable_host(listen["host"])
    return f"http://{f'[{host}]' if ':' in host else host}:{listen['port']}"


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


def registry_variables(args: dict[str, Any]) -> dict[str, str]:
    """Return what tells replicas the registry that is seen from here: whoever rolls out models means that one.

    Args:
        args: The application's arguments in the YAML: fields of ``AppArgs``.
    """
    from cutray.models.registry import store_address

    return {"MLFLOW_TRACKING_URI": str(store_address())} if args.get("admin_keys") else {}


def application_args(config: dict[str, Any]) -> dict[str, Any]:
    """Return the application_args of the application, fields of ``AppArgs``."""
    args: dict[str, Any] = config["applications"][0]["args"]
    return args
