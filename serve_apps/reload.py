"""Reads the YAML again while the endpoint runs, and says what came of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from cutray.errors import CutrayError

_APPLY_TIMEOUT_S = 300.0
_SEEN_AFTER_S = 5.0  # Serve's controller looks at a new configuration several times a second
_POLL_S = 0.2
_REASON_CHARACTERS = 1000


class Reloadable(Protocol):
    """What a configuration is applied to."""

    def apply(self, config: dict[str, Any]) -> None:
        """Deploy a configuration."""

    def is_running(self) -> bool:
        """Return whether all replicas have the configuration that was applied last.

        Raises:
            CutrayError: The configuration cannot be deployed.
        """

    def swap_error(self) -> str | None:
        """Return why a configured model was not loaded, or None."""


class Reloader:
    """The configuration that is in use, and the way to the next one."""

    def __init__(
        self,
        endpoint: Reloadable,
        config: dict[str, Any],
        read: Callable[[], dict[str, Any]],
        say: Callable[[str], None],
        ended: threading.Event,
    ) -> None:
        """Keep what is in use.

        Args:
            endpoint: The running endpoint.
            config: Its configuration.
            read: Reads and checks the YAML.
            say: Takes a line for the person at the terminal.
            ended: Set once nobody waits for an outcome any more.
        """
        self._endpoint, self._config, self._read, self._say, self._ended = endpoint, config, read, say, ended

    def reload(self) -> None:
        """Apply the YAML if it has changed and is valid; otherwise the endpoint goes on as it is."""
        try:
            config = self._read()
            changed = changed_parts(self._config, config)
        except Exception as error:  # whatever is wrong with the YAML, photos are under way
            self._say(f"cutray: kept the old configuration: {_reason(error)}")
            return
        if not changed:
            self._say("the configuration has not changed")
            return
        try:
            self._endpoint.apply(config)
            self._config = config
            done = self._wait()
            swap_error = self._endpoint.swap_error()
        except Exception as failure:
            self._say(f"cutray: the new configuration cannot be used: {_reason(failure)}")
            return
        if self._ended.is_set():
            return
        if swap_error:
            self._say(f"cutray: kept the old model, the new one could not be loaded: {swap_error}")
            return
        late = [name for name in changed if name in _AT_START]
        at_restart = f"; only a restart changes {', '.join(late)}" if late else ""
        outcome = (
            "the configuration was read again" if done else "the configuration was read again, and is being applied"
        )
        self._say(f"{outcome}: {', '.join(changed)}{at_restart}")

    def _wait(self) -> bool:
        """Wait until the new configuration has arrived everywhere; returns whether it has."""
        started = time.monotonic()
        seen = False
        while time.monotonic() < started + _APPLY_TIMEOUT_S and not self._ended.wait(_POLL_S):
            running = self._endpoint.is_running()
            seen = seen or not running
            if running and (seen or time.monotonic() > started + _SEEN_AFTER_S):
                return True
        return False


def _reason(error: Exception) -> str:
    """Say in one line what went wrong, with the kind of an error that nobody foresaw."""
    if isinstance(error, CutrayError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARACTERS]


# Ray and the proxies have these from their start.
_AT_START = frozenset(
    {
        "proxy_location",
        "http_options",
        "metrics_port",
        "limits.max_body_bytes",
        "limits.max_batch_body_bytes",
        "jobs.max_body_bytes",
    }
)


def changed_parts(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Name what differs between two configurations.

    Args:
        old: From ``load_config``.
        new: From ``load_config``.

    Returns:
        Keys of the file, arguments of the application (limits and what is about jobs one by one), names of deployments.
    """
    before, after = _parts(old), _parts(new)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _parts(config: dict[str, Any]) -> dict[str, Any]:
    """Take a configuration apart, by the names of its parts."""
    (application,) = config["applications"]
    parts = {name: value for name, value in config.items() if name != "applications"}
    parts |= {name: value for name, value in application.items() if name not in ("args", "deployments")}
    args = application["args"]
    groups = ("limits", "jobs")
    parts |= {name: value for name, value in args.items() if name not in groups}
    parts |= {f"{group}.{name}": value for group in groups for name, value in args.get(group, {}).items()}
    return parts | {entry["name"]: entry for entry in application["deployments"]}
