"""A receiver of webhooks on this machine: fails as often as it is told, checks signatures, keeps what came."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """What came.

    Attributes:
        url: Where it listens.
        photo: What it answers a GET with.
        failures: How many of the next webhooks it answers with 500.
        secret: What webhooks are to be signed with; empty if it is not known yet.
        tries: Id of each webhook that came.
        events: Body of each event that was taken, by its id.
        unsigned: How many had a wrong signature.
    """

    url: str = ""
    photo: bytes = b""
    failures: int = 0
    secret: str = ""
    tries: list[str] = field(default_factory=list)
    events: dict[str, bytes] = field(default_factory=dict)
    unsigned: int = 0

    def take(self, headers: Any, body: bytes) -> int:
        """Take one webhook, and return the status to answer with."""
        event_id = headers["webhook-id"]
        self.tries.append(event_id)
        if self.failures > 0:
            self.failures -= 1
            return 500
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signed = f"{event_id}.{headers['webhook-timestamp']}.".encode() + body
        wanted = f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
        if self.secret and not hmac.compare_digest(wanted, headers["webhook-signature"]):
            self.unsigned += 1
            return 401
        self.events[event_id] = body
        return 204


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver until the block ends."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = receiver.take(self.headers, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("a.jpg") else 302)
            self.send_header("Location", "/photos/a.jpg")
            self.end_headers()
            self.wfile.write(receiver.photo)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
