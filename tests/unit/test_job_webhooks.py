"""What counts as a delivered webhook: the status of the answer alone, whatever its body is."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from cutray.config import JobSettings
from serve_apps.jobs.records import JobState, NewJob, NewPhoto
from serve_apps.jobs.replies import event_body
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.webhooks import WebhookSender
from tests.http_servers import serving

# Headers that promise a body, and what comes of it; the connection of "open" stays open.
_BODIES = {
    "none": (("Content-Length", "0"), b""),
    "long": (("Content-Length", str(1 << 20)), b"x" * (1 << 20)),
    "open": (("Content-Length", "10"), b"x"),
    "short": (("Content-Length", "10"), b"x"),
    "aborted": (("Transfer-Encoding", "chunked"), b"ff\r\nxxx"),
    "malformed": (("Transfer-Encoding", "chunked"), b"no length\r\n"),
}


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the status and the kind of body that the path names: ``/200/long``."""

    over: threading.Event
    came: list[str]

    def do_POST(self) -> None:
        """Take the event, then answer."""
        self.rfile.read(int(self.headers["content-length"]))
        type(self).came.append(self.headers["webhook-id"])
        _, status, kind = self.path.split("/")
        header, body = _BODIES[kind]
        self.send_response(int(status))
        self.send_header(*header)
        self.end_headers()
        with contextlib.suppress(OSError):  # nobody has to read it
            self.wfile.write(body)
            self.wfile.flush()
        if kind == "open":
            self.over.wait(60)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    """Run a receiver; yields its address and the ids of what came."""
    over, came = threading.Event(), list[str]()
    handler = type("Handler", (_Handler,), {"over": over, "came": came})
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as running:
        yield f"http://127.0.0.1:{running.server_port}", came
        over.set()


def send(folder: Path, address: str) -> tuple[str, dict[str, Any]]:
    """End a job, send its event once, and return what came of it and the event's row."""
    settings = JobSettings(
        folder=str(folder), webhooks=(address.rpartition("/")[0],), private_addresses=True, webhook_timeout_s=2
    )
    store = JobStore(settings)
    store.add(NewJob("a", "shop", [NewPhoto("1.jpg", "1.png")], 10, {}, "hash", webhook=address))
    store.finish("a", JobState.FINISHED, event_body)
    (event,) = store.due_events()
    outcome = WebhookSender(settings, store).send(event)
    row = store.event_of("a")
    assert row is not None
    return outcome, row


@pytest.mark.parametrize("kind", _BODIES)
def test_the_status_counts_and_not_the_body(tmp_path: Path, receiver: tuple[str, list[str]], kind: str) -> None:
    """An event is delivered by the first answer of 2xx: empty, long, never ending or broken off."""
    url, came = receiver
    outcome, event = send(tmp_path, f"{url}/202/{kind}")
    assert (outcome, event["state"], event["attempts"]) == ("delivered", "delivered", 1)
    assert came == [event["id"]]


@pytest.mark.parametrize(("status", "state"), [(302, "waiting"), (410, "given_up"), (500, "waiting")])
def test_other_answers_are_no_delivery(
    tmp_path: Path, receiver: tuple[str, list[str]], status: int, state: str
) -> None:
    """A redirect and an error are tried again, and who is gone is left alone."""
    outcome, event = send(tmp_path, f"{receiver[0]}/{status}/none")
    assert outcome == event["state"] == state
