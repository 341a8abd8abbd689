"""The guard of addresses that strangers name: lists, odd spellings, private networks, rebinding, redirects."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cutray.errors import ConfigError

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from serve_apps.jobs.addresses import (
    AddressNotAllowedError,
    AllowList,
    FetchError,
    is_public,
    parse_address,
    request,
    resolve,
)
from tests.http_servers import serving

LISTED = AllowList(
    ["https://cdn.example/photos/", "https://*.shop.example/", "s3://bucket/in", "http://plain.example:8080/"],
    ("https", "http", "s3"),
)


@pytest.mark.parametrize(
    "text",
    [
        "https://cdn.example/photos/a.jpg?size=1",
        "https://CDN.example:443/photos/",
        "https://eu.img.shop.example/a%20b.jpg",
        "https://cdn.example/photos/.well-known/..a/a..b/100%25;v=2/...jpg",
        "s3://bucket/in/2026/a.jpg",
        "http://plain.example:8080/a",
    ],
)
def test_listed_addresses_pass(text: str) -> None:
    """What begins like an entry may be contacted."""
    assert LISTED.check(text).host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "photos/a.jpg",
        "//cdn.example/photos/a",
        "file:///etc/passwd",
        "gopher://cdn.example/photos/",
        "http://cdn.example/photos/a",  # the list says https
        "https://cdn.example:8443/photos/a",
        "https://cdn.example/other/a",
        "https://cdn.example/photos/../secret",
        "https://cdn.example/photos/%2e%2e/secret",
        "https://cdn.example/photos/%252e%252e/secret",
        "https://cdn.example/photos/%25252525252e%25252525252e/secret",
        "https://cdn.example/photos/..;/secret",  # a parameter of the path, which Java servers cut off
        "https://cdn.example/photos/..;a=b/secret",
        "https://cdn.example/photos/..%3b/secret",
        "https://cdn.example/photos/%2e%2e%3Bx/secret",
        "https://cdn.example/photos/.;/secret",
        "https://cdn.example/photos/..%20/secret",
        "https://cdn.example/photos/%20../secret",
        "https://cdn.example/photos/..%00/secret",
        "https://cdn.example/photos/..%5csecret",
        "https://cdn.example/photos/..%255c..%255csecret",
        "https://cdn.example/photos/%c0%ae%c0%ae/secret",  # an overlong UTF-8 dot
        "https://cdn.example/photos/%EF%BC%8E%EF%BC%8E/secret",  # full-width dots
        "https://cdn.example/photos/a%0d%0aHost:%20x",
        "https://cdn.example/photosecret",
        "https://cdn.example.evil.example/photos/",
        "https://evil.example/https://cdn.example/photos/",
        "https://shop.example/",  # the wildcard stands for at least one label
        "https://evilshop.example/",
        "https://cdn.example@evil.example/photos/",
        "https://evil.example#@cdn.example/photos/",
        "https://evil.example\\@cdn.example/photos/",
        "https://cdn.example\\.evil.example/photos/",
        "https://cdn.example%2eevil.example/photos/",
        "https://cdn.example /photos/",
        "https://cdn.example/photos/\r\nHost: x",
        "https://cdn.\u0435xample/photos/",  # a Cyrillic letter
        "https://cdn.example:99999/photos/",
        "s3://bucket/in/a?endpoint_override=169.254.169.254",
        "s3://key:secret@bucket/in/a",
        "s3://bucket/internal/a",
        "s3://other/in/a",
        "https://cdn.example/photos/" + "a" * 3000,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    """Other schemes, hosts, ports and paths, user names and tricks of spelling are no way around the list."""
    with pytest.raises(AddressNotAllowedError):
        LISTED.check(text)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "127.0.0.01"])
def test_ip_addresses_have_one_spelling(host: str) -> None:
    """Decimal, octal, hexadecimal and short forms are refused before any resolver reads them its own way."""
    with pytest.raises(AddressNotAllowedError):
        parse_address(f"https://{host}/")
    assert parse_address("https://127.0.0.1/").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_private_networks_are_known_in_every_form(address: str, public: bool) -> None:
    """Loopback, private, link-local, metadata, multicast and reserved, in IPv4, IPv6 and IPv4 within IPv6."""
    assert is_public(ipaddress.ip_address(address)) is public


def test_one_private_answer_of_the_resolver_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a public and a private address is refused, because either may be taken."""
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, 443)) for place in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(AddressNotAllowedError):
        resolve(parse_address("https://cdn.example/"), private=False)
    assert resolve(parse_address("https://cdn.example/"), private=True)[1] == "8.8.8.8"


_NEARLY_ALL = "the client has heard nearly all of it"
# Whole answers, a letter at a time: each letter is far quicker than the timeout, all of them are not.
_TRICKLES = {
    "/status": b"HTTP/1.0 200 " + b"O" * 40 + b"\r\n\r\n",
    "/headers": b"HTTP/1.0 200 OK\r\nA: " + b"b" * 40 + b"\r\n\r\n",
    "/continue": b"HTTP/1.0 100 Continue\r\n\r\n" * 2 + b"HTTP/1.0 200 OK\r\n\r\n",
    "/body": b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 40,
}
_LENGTHS = {"/exact": "5", "/short": "9"}  # what is promised of five letters


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers, redirects, trickles or sends too much, by path; counts what it is asked."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        if self.path in _TRICKLES:
            with contextlib.suppress(OSError):
                for left, letter in zip(range(len(_TRICKLES[self.path]), 0, -1), _TRICKLES[self.path], strict=True):
                    if left == 5:
                        type(self).asked.append(_NEARLY_ALL)
                    self.wfile.write(bytes([letter]))
                    threading.Event().wait(0.05)
            return
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
            return
        self.send_response(200)
        if self.path in _LENGTHS:
            self.send_header("Content-Length", _LENGTHS[self.path])
        self.end_headers()
        self.wfile.write(b"x" * (5000 if self.path == "/large" else 5))
        if self.path == "/slow":
            self.wfile.flush()
            threading.Event().wait(3)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Run a server on the loopback; yields its address and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"asked": asked})
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as running:
        yield f"http://localhost:{running.server_port}", asked


def get(text: str, *, private: bool = True, timeout_s: float = 1.0) -> tuple[int, bytes]:
    return request("GET", parse_address(text), private=private, timeout_s=timeout_s, max_bytes=1000)


def test_a_request_is_answered_and_never_redirected(server: tuple[str, list[str]]) -> None:
    """What is there comes back; a redirect is an answer like any other."""
    url, asked = server
    assert get(f"{url}/photo") == get(f"{url}/exact") == (200, b"xxxxx")
    assert get(f"{url}/redirect")[0] == 302
    assert asked == ["/photo", "/exact", "/redirect"]


def test_private_hosts_are_not_contacted(server: tuple[str, list[str]]) -> None:
    """Without the permission nothing is even connected to."""
    url, asked = server
    with pytest.raises(AddressNotAllowedError):
        get(f"{url}/photo", private=False)
    assert asked == []


def test_a_second_answer_of_the_name_server_changes_nothing(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host is resolved once: a name server that answers otherwise the second time is not asked again."""
    url, asked = server
    port = int(url.rpartition(":")[2])
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.pop())
    assert get(f"http://rebinding.example:{port}/photo")[0] == 200
    assert (answers, asked) == ([], ["/photo"])


@pytest.mark.parametrize("path", ["/large", "/slow", "/short"])
def test_answers_have_limits(server: tuple[str, list[str]], path: str) -> None:
    """An answer that is too long, trickles, or breaks off, is an error."""
    with pytest.raises(FetchError):
        get(server[0] + path)


@pytest.mark.parametrize("path", _TRICKLES)
def test_an_answer_that_trickles_ends_in_time(server: tuple[str, list[str]], path: str) -> None:
    """The timeout is for all of it: a receiver that sends a letter now and then does not start it anew."""
    url, asked = server
    with pytest.raises(FetchError, match="TimeoutError"):
        get(url + path, timeout_s=0.3)
    assert _NEARLY_ALL not in asked


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what a server of ``localhost`` proves itself with, and what trusts it alone."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem = tmp_path / "server.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pem.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        + made.sign(key, hashes.SHA256()).public_bytes(encoding)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


def test_tls_has_the_same_limits(
    server: tuple[str, list[str]], tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS an answer arrives whole, one that trickles ends in time, and who cannot prove its name is not heard."""
    url, asked = server
    accept = socketserver.TCPServer.get_request

    def accept_tls(listening: Any) -> Any:
        connection, peer = accept(listening)
        return tls[0].wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

    monkeypatch.setattr(http.server.ThreadingHTTPServer, "get_request", accept_tls)
    address = url.replace("http://", "https://")
    answer = request(
        "GET", parse_address(f"{address}/photo"), private=True, timeout_s=20, max_bytes=1000, context=tls[1]
    )
    assert answer == (200, b"xxxxx")
    with pytest.raises(FetchError, match="TimeoutError"):
        request("GET", parse_address(f"{address}/headers"), private=True, timeout_s=1, max_bytes=9, context=tls[1])
    with pytest.raises(FetchError, match="SSLCertVerificationError"):
        request("GET", parse_address(f"{address}/photo"), private=True, timeout_s=20, max_bytes=1000)
    assert _NEARLY_ALL not in asked and asked.count("/photo") == 1


def test_a_name_server_that_does_not_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout holds for the name server, too."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [answered.wait(30)][1:])
    with pytest.raises(FetchError, match="not known"):
        request("GET", parse_address("http://slow.example/"), private=True, timeout_s=0.2, max_bytes=10)
    answered.set()


def test_entries_are_checked() -> None:
    """A list with something else than beginnings of addresses is refused when it is read."""
    for entry in ("cdn.example", "ftp://cdn.example/", "https://user@cdn.example/", "https://cdn.example/?a"):
        with pytest.raises(ConfigError):
            AllowList([entry], ("https",))
