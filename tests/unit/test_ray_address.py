"""Which cluster a job joins, and how soon it is known that none answers."""

from __future__ import annotations

import socket
import threading

import pytest

from cutray.console.ray_address import check_reachable, resolve_address
from cutray.errors import ConfigError


@pytest.mark.parametrize(
    ("option", "variable", "joined"),
    [
        (None, None, None),
        (None, "", None),
        (None, "head:6379", "head:6379"),
        (None, "auto", "auto"),
        (None, "local", None),
        ("other:1", "head:6379", "other:1"),
        ("local", "head:6379", None),
    ],
)
def test_the_option_counts_before_the_variable(option: str | None, variable: str | None, joined: str | None) -> None:
    """--address comes first, then RAY_ADDRESS, then a cluster of this machine."""
    assert resolve_address(option, {} if variable is None else {"RAY_ADDRESS": variable}) == joined


def test_nobody_at_the_address() -> None:
    """A cluster that has gone is an error at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(ConfigError, match="no Ray cluster at"):
            check_reachable(address)


@pytest.mark.parametrize("address", ["head", "head:", "head:port", "head:99999", ":6379"])
def test_what_is_no_address(address: str) -> None:
    """An address that cannot be one is refused without a try."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        check_reachable(address)


def test_somebody_else_at_the_address() -> None:
    """A server of something else is not taken for a cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConfigError, match="is no Ray"):
            check_reachable(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
