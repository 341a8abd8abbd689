"""Which Ray cluster a job joins, and whether one answers there."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from cutray.errors import ConfigError

_CONNECT_S = 5.0
# What a client of HTTP/2, and so of gRPC, says first; a server answers with a frame of the same type (4, SETTINGS).
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME_BYTES, _TYPE_AT, _SETTINGS = 9, 3, 4


def resolve_address(address: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the cluster to join: the one that was asked for, else that of ``RAY_ADDRESS``, else None.

    Args:
        address: The option ``--address``; ``local`` starts a cluster on this machine whatever the environment says.
        environ: Variables of the environment.
    """
    chosen = address or environ.get("RAY_ADDRESS", "").strip() or None
    return None if chosen == "local" else chosen


def check_reachable(address: str) -> None:
    """Refuse an address where no Ray answers, within seconds: Ray itself tries for minutes.

    Args:
        address: HOST:PORT, ray://HOST:PORT, or auto.

    Raises:
        ConfigError: The address has another form, nothing listens there, or what listens is no Ray.
    """
    place = _find_running_cluster() if address == "auto" else address.partition("://")[2] or address
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError(
            got=f"no Ray cluster at {address!r}",
            allowed="auto, HOST:PORT, ray://HOST:PORT, or local",
            fix="check --address and RAY_ADDRESS",
        )
    problem = None
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):  # one with TLS answers only to TLS
                connection.sendall(_HTTP2_PREFACE)
                answer = connection.recv(_FRAME_BYTES)
                if len(answer) <= _TYPE_AT or answer[_TYPE_AT] != _SETTINGS:
                    problem = "what answers there is no Ray"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise ConfigError(
            got=f"no Ray cluster at {place!r}: {problem}",
            allowed="the address of a cluster that runs, port 6379 unless it was started with another one",
            fix="start the cluster, correct --address or RAY_ADDRESS, or use --address local",
        )


def _find_running_cluster() -> str:
    """Return the address of the cluster that was started on this machine.

    Raises:
        ConfigError: There is none.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    # Ray reads the variable before it looks for a cluster; a value that only repeats the question says nothing.
    named = os.environ.get("RAY_ADDRESS", "").strip()
    if named not in ("", "auto", "local"):
        return named.partition("://")[2] or named
    try:
        return canonicalize_bootstrap_address_or_die("auto")
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            got="no Ray cluster runs on this machine",
            allowed="one that was started here with `ray start`",
            fix="name it with --address HOST:PORT, or leave --address out",
        ) from error
