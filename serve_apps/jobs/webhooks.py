"""Signs and sends webhooks, as Standard Webhooks describes it; an event is sent until somebody has taken it.

Source: the specification of Standard Webhooks 1.0.0, "Signature scheme" and "Operational considerations".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import random
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutray.config import JobSettings
from cutray.errors import InputError
from serve_apps.jobs.addresses import allow_lists, request
from serve_apps.jobs.store import JobStore

_MASTER = "webhook.key"
_PREFIX = "whsec_"
_SECRET_BYTES = 32
_LONGEST_PAUSE_S = 3600.0
_GONE = 410


def secret_of(folder: str, owner: str) -> str:
    """Return the secret of an API key, derived from the one of the folder, which is made when it is first needed.

    Args:
        folder: Folder of all jobs.
        owner: Name of the API key.
    """
    path = Path(folder, _MASTER)
    try:
        master = path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = path.with_name(f".{_MASTER}-{secrets.token_hex(8)}")
        with open(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        try:
            os.link(own, path)  # of several processes that come at the same moment, one wins
        except FileExistsError:
            pass
        finally:
            own.unlink()
        master = path.read_bytes()
    return _PREFIX + base64.b64encode(hmac.digest(master, owner.encode(), hashlib.sha256)).decode()


def signed_headers(secret: str, event_id: str, body: bytes, now_s: int) -> dict[str, str]:
    """Return the headers by which a receiver knows that an event is genuine and fresh.

    Args:
        secret: From ``secret_of``.
        event_id: Id of the event.
        body: Body of the request.
        now_s: Seconds since 1970.
    """
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = hmac.digest(key, f"{event_id}.{now_s}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def pause_s(attempts: int) -> float:
    """Return how long to wait after so many tries: twice as long each time, with a random part."""
    longest = min(_LONGEST_PAUSE_S, 2.0 ** (attempts - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads tries, protects nothing)


class WebhookSender:
    """Sends events of one store."""

    def __init__(self, settings: JobSettings, store: JobStore) -> None:
        """Keep the list of receivers; an event whose receiver has left it is given up."""
        self._settings, self._store = settings, store
        *_, self._receivers = allow_lists(settings)

    def send(self, event: Mapping[str, Any]) -> str:
        """Send an event once, and note what came of it.

        Args:
            event: Its row.

        Returns:
            delivered, waiting for another try, or given_up.
        """
        attempts = event["attempts"] + 1
        status = self._status_of(event)
        state = "waiting"
        if 200 <= status < 300:
            state = "delivered"
        elif status == _GONE or attempts >= self._settings.webhook_attempts:
            state = "given_up"
        self._store.set_event(event["id"], state, attempts, time.time() + pause_s(attempts))
        return state

    def _status_of(self, event: Mapping[str, Any]) -> int:
        """Send an event and return the status of the answer; 0 where there is none."""
        body = str(event["body"]).encode()
        secret = secret_of(self._settings.folder, event["owner"])
        try:
            status, _ = request(
                "POST",
                self._receivers.check(event["url"]),
                private=self._settings.private_addresses,
                timeout_s=self._settings.webhook_timeout_s,
                max_bytes=None,  # the status says it all; a body may be long, broken, or never end
                headers=signed_headers(secret, event["id"], body, int(time.time())),
                body=body,
            )
        except InputError:
            return 0
        return status
