"""``cutray rollout``: asks a running endpoint to try a new model, and tells how that goes."""

from __future__ import annotations

import ipaddress
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cutray.config import RolloutRules, parse_settings
from cutray.config.paths import absolute_model
from cutray.console.extras import requires_extra
from cutray.errors import ConfigError, CutrayError
from cutray.regular_file import read_text

_URL = "http://127.0.0.1:8000"
_TIMEOUT_S = 40.0
_POLL_S = 1.0
_UNANSWERED_S = 60.0
_ENDED = ("promoted", "rolled_back", "aborted")


def _endpoint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which endpoint is meant, and who is asking."""
    command = click.option(
        "--api-key", envvar="CUTRAY_API_KEY", help="Key of an administrator.  [default: CUTRAY_API_KEY]"
    )(command)
    return click.option(
        "--url",
        envvar="CUTRAY_URL",
        default=_URL,
        help=f"Address of the endpoint.  [default: CUTRAY_URL, else {_URL}]",
    )(command)


@click.group()
def rollout() -> None:
    """Try a new model on a running endpoint, and promote it by rules.

    The endpoint needs an administrator: admin_keys in its YAML. What it answers is JSON.

    \b
    cutray rollout start models:/shoes@challenger --shadow 10% --rules rules.yaml
    cutray rollout start models:/shoes@challenger --canary 5%
    cutray rollout status                  state, figures, and what it waits for
    cutray rollout promote                 now, whatever the rules say
    cutray rollout abort                   take it away
    """


@rollout.command()
@click.argument("model")
@click.option("--shadow", help="Share of the requests that MODEL works on unseen, such as 10%.")
@click.option("--canary", help="Share of the requests that MODEL answers, such as 5%.")
@click.option(
    "--rules", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="YAML of rules, see docs/settings.md."
)
@click.option(
    "--challenges", default="", help="Served model that it challenges.  [default: the one of its name, else the first]"
)
@click.option("--replicas", type=click.IntRange(1, 64), default=1, show_default=True, help="Replicas of MODEL.")
@click.option(
    "--alias", default="champion", show_default=True, help="Alias in the registry that it gets with its promotion."
)
@_endpoint_options
@requires_extra("serve", "yaml")
def start(
    model: str,
    shadow: str | None,
    canary: str | None,
    rules: Path | None,
    challenges: str,
    replicas: int,
    alias: str,
    url: str,
    api_key: str | None,
) -> None:
    """Load MODEL beside the present one and try it on a share of the requests.

    MODEL is a name, a file on the endpoint's machine, or an address in its registry.

    \b
    cutray rollout start models:/shoes@challenger --shadow 10%
    cutray rollout start shoes.onnx --shadow 5% --canary 1% --rules rules.yaml
    """
    from serve_apps.rollout.routing import parse_share

    if not shadow and not canary:
        raise ConfigError(got="neither --shadow nor --canary", allowed="one of them, or both", fix="add --shadow 10%")
    body = {
        "model": absolute_model(model),
        "challenges": challenges,
        "shadow": parse_share(shadow) if shadow else 0.0,
        "canary": parse_share(canary) if canary else 0.0,
        "replicas": replicas,
        "alias": alias,
        "rules": read_rules(rules).model_dump(exclude_unset=True) if rules else {},
    }
    _show(_ask(url, api_key, "POST", "", body))


@rollout.command()
@click.option("--wait", is_flag=True, help="Wait for the end; exit with 0 only if it was promoted.")
@_endpoint_options
def status(wait: bool, url: str, api_key: str | None) -> int:
    """Show how the latest roll-out stands.

    \b
    cutray rollout status                  once
    cutray rollout status --wait           until its end; 0 promoted, 1 not
    """
    told, silent_since = _ask(url, api_key, "GET", ""), 0.0
    while wait and told.get("state", "promoted") not in _ENDED:
        time.sleep(_POLL_S)
        try:
            told, silent_since = _ask(url, api_key, "GET", ""), 0.0
        except UnansweredError:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > _UNANSWERED_S:
                raise
    _show(told)
    return int(wait and told.get("state") != "promoted")


@rollout.command()
@_endpoint_options
def promote(url: str, api_key: str | None) -> None:
    """Put the challenger in the champion's place now, whatever the rules say.

    \b
    cutray rollout promote
    cutray rollout promote --url https://cutray.example.com --api-key $KEY
    """
    _show(_ask(url, api_key, "POST", "/promote"))


@rollout.command()
@_endpoint_options
def abort(url: str, api_key: str | None) -> None:
    """Take the challenger away; the champion goes on.

    \b
    cutray rollout abort
    cutray rollout abort --url https://cutray.example.com --api-key $KEY
    """
    _show(_ask(url, api_key, "POST", "/abort"))


class UnansweredError(CutrayError):
    """The endpoint does not answer now."""


def read_rules(path: Path) -> RolloutRules:
    """Read rules from a YAML.

    Args:
        path: The file.

    Raises:
        ConfigError: It is no YAML, or has an unknown key or a value that is not allowed.
    """
    import yaml

    try:
        values = yaml.safe_load(read_text(path))
    except OSError as error:
        raise ConfigError(got=f"cannot read {path}: {error.strerror}", fix="correct the path, or its rights") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(got=f"{path} is no YAML: {' '.join(str(error).split())}", fix="correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(got=f"{path} holds no table", allowed="lines such as min_requests: 200", fix="correct it")
    return parse_settings(RolloutRules, values)


def _ask(url: str, api_key: str | None, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send one request to the endpoint."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(got=f"the address {url!r}", allowed="http:// and https://", fix="correct --url")
    request = urllib.request.Request(
        f"{url.rstrip('/')}/rollout{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json", **({"X-API-Key": api_key} if api_key else {})},
    )
    try:
        with _opener(url).open(request, timeout=_TIMEOUT_S) as answer:
            told: dict[str, Any] = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnansweredError(got=f"{url} does not answer: {reason}", fix="check --url and that it runs") from error
    return told


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return what reaches an endpoint: this machine directly, so that no proxy learns the key, others as usual."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost" or host.endswith(".localhost")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_local else []))


def _refusal(error: urllib.error.HTTPError) -> CutrayError:
    """Return the error that an answer is."""
    try:
        told = json.loads(error.read())
        text = f"{told['code']}: {told['message']}"
    except (OSError, ValueError, KeyError, TypeError):
        text = f"HTTP status {error.code}"
    kinds = {400: ConfigError, 404: ConfigError, 503: UnansweredError}
    fixes = {
        401: "give the key of an administrator by --api-key or CUTRAY_API_KEY",
        403: "use the key of an administrator; admin_keys in the endpoint's YAML names them",
    }
    return kinds.get(error.code, CutrayError)(got=f"the endpoint refused: {text}", fix=fixes.get(error.code, ""))


def _show(told: dict[str, Any]) -> None:
    """Print what the endpoint said."""
    click.echo(json.dumps(told, indent=2) if told else "there was no roll-out yet")
