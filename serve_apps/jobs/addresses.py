"""Guards what strangers may have contacted: an allow-list of addresses, one resolution, no private networks.

A name is resolved once and the connection goes to just that address, so that a second answer of the name server
(DNS rebinding) changes nothing. Redirects are not followed. Variables for proxies are not read.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from cutray.config import JobSettings
from cutray.errors import ConfigError, InputError
from serve_apps.jobs.deadline import DeadlineSocket

_PORTS = {"https": 443, "http": 80, "s3": 0}
_LONGEST = 2048
_PLAIN = re.compile(r"[!-~]+")  # printable ASCII without a space
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_BLOCK_BYTES = 1 << 16
# A part of a path that some server takes for . or ..: spaces around it, or parameters and odd characters behind it.
_DOTS = re.compile(r"\s*\.{1,2}(?:[^\w.-].*)?", re.DOTALL)
_OVERLONG_DOT = re.compile(r"%(?:c0%ae|e0%80%ae|f0%80%80%ae)", re.IGNORECASE)  # as decoders read that are too lenient
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESOLVE_S = 10.0
_MOST_ESCAPES = 5  # of an escape within an escape
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressNotAllowedError(InputError):
    """An address is malformed, on no list, or in a network that is out of bounds."""

    code = "address_not_allowed"


class FetchError(InputError):
    """What is at an address could not be fetched."""

    code = "url_not_fetched"


@dataclass(frozen=True, slots=True)
class Address:
    """An address that was taken apart.

    Attributes:
        scheme: https, http or s3.
        host: Lower case; of s3 the bucket.
        port: Port, 0 of s3.
        path: Path with its slash, as it was written.
        query: Query without its mark.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def netloc(self) -> str:
        """Host and port, as the header ``Host`` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, _PORTS[self.scheme]) else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What a request line asks for."""
        return self.path + (f"?{self.query}" if self.query else "")


def parse_address(text: str) -> Address:
    """Take an address apart, and refuse what two programs could read in two ways.

    Args:
        text: The address.

    Raises:
        AddressNotAllowedError: It has another scheme, a user name, a fragment, odd characters, an odd spelling of an
            IP address, or ``..`` in its path.
    """
    if len(text) > _LONGEST or not _PLAIN.fullmatch(text) or "\\" in text or "#" in text:
        raise _refused(text, "no spaces, backslashes, fragments or letters that are not ASCII")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise _refused(text, "a host and a port that are spelt rightly") from error
    if parts.scheme not in _PORTS or not text.startswith(f"{parts.scheme}://"):
        raise _refused(text, "https://, or http:// and s3:// where the configuration says so")
    if "@" in parts.netloc or not _HOST.fullmatch(host) or "%" in parts.netloc:
        raise _refused(text, "a host without a user name")
    if ":" not in host and _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]) and not _is_dotted(host):
        raise _refused(text, "IP addresses as four decimal numbers")
    if _leaves_folder(parts.path):
        raise _refused(text, "a path without . and .., in whatever spelling")
    if parts.scheme == "s3" and (parts.query or port is not None):
        raise _refused(text, "s3://BUCKET/PATH without options: endpoint and keys come from the environment")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], parts.path or "/", parts.query)


def _leaves_folder(path: str) -> bool:
    """Whether some server could read ``.`` or ``..`` in a path: escaped any number of times, with parameters behind."""
    for _ in range(_MOST_ESCAPES):
        plain = _OVERLONG_DOT.sub(".", path)
        read = unicodedata.normalize("NFKC", plain)
        if _CONTROL.search(read) or any(_DOTS.fullmatch(part) for part in re.split(r"[/\\]", read)):
            return True
        if (path := unquote(plain)) == plain:
            return False
    return True


class AllowList:
    """Beginnings of addresses that may be contacted."""

    def __init__(self, entries: Sequence[str], schemes: Sequence[str]) -> None:
        """Take the entries apart.

        Args:
            entries: Such as ``https://*.shop.example/photos/``.
            schemes: Those that make sense here.

        Raises:
            ConfigError: An entry is no beginning of an address.
        """
        self._entries = []
        for entry in entries:
            try:
                parsed = parse_address(entry.replace("://*.", "://wildcard.", 1))
            except AddressNotAllowedError as error:
                raise ConfigError(got=error.got, allowed=error.allowed, fix="correct the YAML") from error
            if parsed.scheme not in schemes or parsed.query:
                raise ConfigError(
                    got=f"the entry {entry!r}",
                    allowed=f"{', '.join(f'{name}://' for name in schemes)} with a host and a path",
                    fix="correct the YAML",
                )
            self._entries.append((parsed, "://*." in entry))

    def check(self, text: str) -> Address:
        """Take an address apart that is on the list.

        Raises:
            AddressNotAllowedError: It is malformed, or not on the list.
        """
        address = parse_address(text)
        if not any(_matches(address, entry, wildcard) for entry, wildcard in self._entries):
            raise _refused(text, "addresses that the configuration of this endpoint lists")
        return address


def allow_lists(settings: JobSettings) -> tuple[AllowList, AllowList, AllowList]:
    """Read the lists of sources, targets and webhooks.

    Raises:
        ConfigError: An entry is no beginning of an address.
    """
    return (
        AllowList(settings.sources, ("https", "http", "s3")),
        AllowList(settings.targets, ("s3",)),
        AllowList(settings.webhooks, ("https", "http")),
    )


def _matches(address: Address, entry: Address, wildcard: bool) -> bool:
    """Whether an address begins like an entry; a path ends at a slash, so that /in does not open /internal."""
    if (address.scheme, address.port) != (entry.scheme, entry.port):
        return False
    if wildcard:
        same_host = address.host.endswith(entry.host.removeprefix("wildcard"))
    else:
        same_host = address.host == entry.host
    path = entry.path if entry.path.endswith("/") else f"{entry.path}/"
    return same_host and (address.path.startswith(path) or address.path == entry.path)


def resolve(address: Address, *, private: bool, timeout_s: float = _RESOLVE_S) -> tuple[int, str]:
    """Resolve a host once.

    Args:
        address: Whose host it is.
        private: Whether it may be in a private network.
        timeout_s: Longest time to wait for the name server.

    Returns:
        Address family and numerical address to connect to.

    Raises:
        AddressNotAllowedError: One of its addresses is not public.
        FetchError: It has none, or the name server does not answer in time.
    """
    found = _look_up(address, timeout_s)
    if not private and not all(is_public(ipaddress.ip_address(str(entry[4][0]).partition("%")[0])) for entry in found):
        raise AddressNotAllowedError(
            got=f"the host {address.host!r} is in a network that is not public", allowed="public addresses alone"
        )
    return int(found[0][0]), str(found[0][4][0])


def _look_up(address: Address, timeout_s: float) -> Sequence[tuple[Any, ...]]:
    """Ask the name server, in a thread that can be left behind: nothing else ends that call in time."""
    found: list[tuple[Any, ...]] = []

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):  # what has no address is not known
            found.extend(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))

    thread = threading.Thread(target=ask, name="resolver", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive() or not found:
        raise FetchError(got=f"the host {address.host!r} is not known", fix="check the address")
    return found


def is_public(address: IPAddress) -> bool:
    """Whether an IP address is that of the open internet, also behind the ways to write IPv4 within IPv6.

    Source: the IANA special-purpose registries, as ``ipaddress`` knows them; RFC 6052 for 64:ff9b::/96.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def request(
    method: str,
    address: Address,
    *,
    private: bool,
    timeout_s: float,
    max_bytes: int | None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Send one request to an address that an ``AllowList`` has let through.

    Args:
        method: GET or POST.
        address: Where to.
        private: Whether it may be in a private network.
        timeout_s: Longest time for all of it.
        max_bytes: Longest body of an answer; None for one that is not read, whatever it is.
        headers: Further headers.
        body: Body of a POST.
        context: Certificates that count; those of the system by default.

    Returns:
        Status and body, which is empty where it is not read.

    Raises:
        AddressNotAllowedError: The host is in a network that is out of bounds.
        FetchError: There was no answer, it was too long, broke off, or took too long.
    """
    until = time.monotonic() + timeout_s
    try:
        with _connect(address, private=private, until=until, context=context) as connected:
            connection = http.client.HTTPConnection(address.host, address.port)
            connection.sock = DeadlineSocket(connected, until)
            connection.request(
                method, address.target, body, {"Host": address.netloc, "User-Agent": "cutray", **(headers or {})}
            )
            answer = connection.getresponse()
            return answer.status, b"" if max_bytes is None else _read(answer, max_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(got=f"{address.netloc} did not answer: {type(error).__name__}", fix="try again") from error


def _connect(address: Address, *, private: bool, until: float, context: ssl.SSLContext | None) -> socket.socket:
    """Resolve a host, and connect to just that address, with TLS where the scheme asks for it."""
    family, place = resolve(address, private=private, timeout_s=max(0.1, until - time.monotonic()))
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(max(0.1, until - time.monotonic()))
        plain.connect((place, address.port))
        if address.scheme != "https":
            return plain
        plain.settimeout(max(0.1, until - time.monotonic()))  # for the whole handshake
        return (context or ssl.create_default_context()).wrap_socket(plain, server_hostname=address.host)
    except BaseException:
        plain.close()
        raise


def _read(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """Read an answer block by block, so that one that is too long is not held in memory."""
    promised, data = answer.length, bytearray()
    while block := answer.read1(_BLOCK_BYTES):
        data += block
        if len(data) > max_bytes:
            raise FetchError(got=f"an answer of more than {max_bytes} bytes", fix="send a smaller one")
    if promised is not None and len(data) < promised:  # http.client itself sees that of a chunked answer alone
        raise FetchError(got=f"an answer of {promised} bytes broke off after {len(data)}", fix="try again")
    return bytes(data)


def _is_dotted(host: str) -> bool:
    """Whether a host is an IPv4 address in its one usual spelling."""
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _refused(text: str, allowed: str) -> AddressNotAllowedError:
    """Build the error; what it repeats of a stranger's text is short and printable."""
    return AddressNotAllowedError(got=f"the address {text[:200]!a}", allowed=allowed, fix="correct it")
