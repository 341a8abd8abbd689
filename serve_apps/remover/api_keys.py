"""API keys: only their hashes are known, compared in constant time, with a limit per key and minute."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Collection, Mapping

from starlette.requests import Request

from cutray.errors import ConfigError
from serve_apps.remover.errors import ApiError


class ApiKeyAuth:
    """Authenticates the requests of one Ingress. Without keys, every request is accepted."""

    def __init__(self, hashes: Mapping[str, str], requests_per_minute: int = 0, admins: Collection[str] = ()) -> None:
        """Keep names and hashes.

        Args:
            hashes: SHA-256 of each key, 64 hexadecimal digits, by the key's name.
            requests_per_minute: Most requests per key in this process; 0 means any number.
            admins: Names of the keys that may use the addresses for administrators.

        Raises:
            ConfigError: A hash is not one; whoever put a key itself there learns it before it is of any use. Or an
                administrator has no key.
        """
        if unknown := sorted(set(admins) - set(hashes)):
            raise ConfigError(
                got=f"admin_keys names {unknown[0]!r}, which is no API key",
                allowed=", ".join(hashes) or "names of api_keys, of which there are none",
                fix="add its hash to api_keys, or correct the name",
            )
        for name, digest in hashes.items():
            if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
                raise ConfigError(
                    got=f"the API key {name!r} is not given as a hash",
                    allowed="64 hexadecimal digits",
                    fix="take the SHA-256 of the key: printf %s KEY | sha256sum",
                )
        self._hashes = {name: digest.lower() for name, digest in hashes.items()}
        self._per_minute, self._admins = requests_per_minute, frozenset(admins)
        self._used: dict[str, tuple[int, int]] = {}

    @property
    def needed(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self._hashes)

    def check(self, key: str | None, authorization: str | None = None) -> str:
        """Find out who is calling, and count it.

        Args:
            key: The header ``X-API-Key``.
            authorization: The header ``Authorization``, for ``Bearer KEY``.

        Returns:
            The key's name, or ``-`` where none is needed.

        Raises:
            ApiError: The key is missing or unknown, or has been used too often.
        """
        if not self._hashes:
            return "-"
        if not key and authorization and authorization[:7].lower() == "bearer ":
            key = authorization[7:].strip(" \t")
        digests = _digests(key or "")
        # All of them are compared, so that time tells nothing about which one comes first.
        matches = [
            name for name, known in self._hashes.items() for digest in digests if hmac.compare_digest(known, digest)
        ]
        if not key or not matches:
            raise ApiError("unauthorized")
        self._count(matches[0])
        return matches[0]

    def authenticate(self, request: Request) -> str:
        """Find out whose key a request came with, and note the name for the access log.

        Raises:
            ApiError: As ``check`` does.
        """
        headers = request.headers
        name = request.state.key = self.check(headers.get("x-api-key"), headers.get("authorization"))
        return name

    def authenticate_admin(self, request: Request) -> str:
        """Find out whose key a request came with, and let administrators alone in.

        Raises:
            ApiError: As ``check`` does; or the key is not an administrator's, or the endpoint has none.
        """
        name = self.authenticate(request)
        if not self._admins:
            raise ApiError("forbidden", "This endpoint has no administrators: name some of api_keys in admin_keys.")
        if name not in self._admins:
            raise ApiError("forbidden")
        return name

    def rate_headers(self, name: str) -> dict[str, str]:
        """Return what a key has left in this minute, as headers; none where nothing is limited.

        Args:
            name: The key's name, from ``check``.
        """
        if not self._per_minute or name not in self._used:
            return {}
        _, used = self._used[name]
        return {
            "X-RateLimit-Limit": str(self._per_minute),
            "X-RateLimit-Remaining": str(max(0, self._per_minute - used)),
            "X-RateLimit-Reset": str(int(time.time() + 60 - time.monotonic() % 60)),
        }

    def _count(self, name: str) -> None:
        """Note one request in this minute."""
        if not self._per_minute:
            return
        now = time.monotonic()
        minute = int(now // 60)
        since, used = self._used.get(name, (minute, 0))
        used = used + 1 if since == minute else 1
        if used > self._per_minute:
            raise ApiError("rate_limited", retry_after_s=60 - int(now % 60))
        self._used[name] = (minute, used)


def _digests(key: str) -> list[str]:
    """Hash a key as it came, and as the UTF-8 of its letters: programs send that, browsers send Latin-1.

    Args:
        key: From a header, whose bytes were read as Latin-1.
    """
    return [hashlib.sha256(data).hexdigest() for data in (key.encode("latin-1"), key.encode())]
