"""Reads a Serve configuration, lays the command line over it, and checks all of it before anything starts."""

from __future__ import annotations

import copy
import os
import socket
from pathlib import Path
from typing import Any

from cutray.errors import ConfigError

# The YAML that is shipped, for one machine and for a cluster.
SHIPPED = {kind: Path(__file__).with_name(f"remover.{kind}.yaml") for kind in ("local", "prod")}
CONFIG = SHIPPED["local"]


def load_config(
    path: Path, *, host: str | None, port: int | None, engine: dict[str, Any], metrics_port: int | None = None
) -> dict[str, Any]:
    """Read the YAML, lay the command line over it, and check all of it.

    Args:
        path: The YAML.
        host: Address instead of the YAML's.
        port: Port instead of the YAML's.
        engine: Fields of ``EngineSettings`` instead of the YAML's; the model goes to the Segmenter.
        metrics_port: Port of Ray's metrics instead of the YAML's.

    Returns:
        A complete Serve configuration.

    Raises:
        ConfigError: A key is unknown or a value is not allowed.
        WeightsError: The model is one of a registry, and cannot be found there.
    """
    import yaml

    from cutray.config import parse_settings
    from cutray.config.paths import absolute_model
    from cutray.models import registry
    from serve_apps.remover.schemas import AppArgs, ModelConfig

    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        (application,) = config["applications"]
        deployments = {entry["name"]: entry for entry in application["deployments"]}
        # A key without a value is empty: everything below it may be commented out.
        for part, name in ((config, "http_options"), (application, "args"), (deployments["Segmenter"], "user_config")):
            part[name] = {**(part.get(name) or {})}
        network, http, args = deployments["Segmenter"]["user_config"], config["http_options"], application["args"]
        args |= {name: {**(args.get(name) or {})} for name in ("engine", "limits") if name in args}
    except OSError as error:
        raise ConfigError(got=f"cannot read {path}: {error.strerror}", fix="correct the path, or its rights") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(got=f"{path} is no YAML: {problem}", fix="correct it there") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            got=f"{path} is no configuration of the endpoint",
            allowed="one application with deployments, one of which is named Segmenter",
            fix="start from what `cutray serve --print-config local` prints",
        ) from error
    http |= {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    engine = dict(engine)
    if "model" in engine:
        model = engine.pop("model")
        network["model"] = str(Path(model).resolve()) if os.path.isfile(model) else absolute_model(model)
    elif (beside := path.resolve().parent / str(network.get("model", ""))).is_file():
        network["model"] = str(beside)  # replicas have another working folder
    if str(network.get("model", "")).startswith(registry.SCHEME):
        # Read again, an alias may stand for another version.
        os.environ["MLFLOW_TRACKING_URI"] = str(registry.store_address())
        network["model"] = registry.pin(network["model"])
    if metrics_port is not None:
        args["metrics_port"] = metrics_port
    args["engine"] = {**args.get("engine", {}), **engine}
    parse_settings(AppArgs, args)
    parse_settings(ModelConfig, network)
    _check(config, path)
    return config


def check_model(config: dict[str, Any]) -> None:
    """Make sure that the model is known and its weights are on this machine; they are fetched if need be.

    Args:
        config: From ``load_config``. The hash of the weights is noted in it, so that it differs once they do.

    Raises:
        WeightsError: They cannot be had, or are not what they should be.
    """
    from cutray.config import parse_settings
    from cutray.models.weights import resolve
    from serve_apps.remover.schemas import ModelConfig

    (application,) = config["applications"]
    network = next(entry for entry in application["deployments"] if entry["name"] == "Segmenter")
    wanted = parse_settings(ModelConfig, network["user_config"])
    weights = resolve(wanted.model, offline=bool(application["args"]["engine"].get("offline", False)))
    wanted.check(weights)
    network["user_config"]["sha256"] = weights.sha256


def _check(config: dict[str, Any], path: Path) -> None:
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
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(got=f"{path}: {problems}", allowed="Ray Serve's configuration file") from error


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


def application_args(config: dict[str, Any]) -> dict[str, Any]:
    """Return the application_args of the application, fields of ``AppArgs``."""
    args: dict[str, Any] = config["applications"][0]["args"]
    return args
