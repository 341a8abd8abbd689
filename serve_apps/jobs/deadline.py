"""A socket that is done by a moment: a peer that sends a byte a second does not start the clock anew with each."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class DeadlineSocket:
    """What ``http.client`` needs of a connected socket, plain or TLS; every operation ends by one moment."""

    def __init__(self, connected: socket.socket, until: float) -> None:
        """Take a socket over.

        Args:
            connected: The socket.
            until: When everything ends, as ``time.monotonic`` tells it.
        """
        self._socket, self._until = connected, until

    def sendall(self, data: Any) -> None:
        """Send all of it.

        Raises:
            TimeoutError: The moment has come.
            OSError: The connection is lost.
        """
        left = memoryview(data)
        while left:
            self._wait_no_longer()
            left = left[self._socket.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what is received as a file; ``mode`` is ``rb``, as ``http.client`` asks for it."""
        assert mode == "rb", mode  # noqa: S101 (nothing else asks)
        return io.BufferedReader(_Incoming(self))

    def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Receive what is there, at least a byte; returns how many bytes, 0 at the end.

        Raises:
            TimeoutError: The moment has come.
            OSError: The connection is lost.
        """
        self._wait_no_longer()
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        """Do nothing: who opened the socket closes it, once the answer has been read."""

    def _wait_no_longer(self) -> None:
        """Let the next operation wait until the moment, and not longer."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)


class _Incoming(io.RawIOBase):
    """What a socket receives, as a raw stream."""

    def __init__(self, source: DeadlineSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.receive_into(buffer)
