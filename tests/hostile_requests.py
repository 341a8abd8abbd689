"""Hostile requests for /jobs and /v2: ZIPs, addresses, models, JSON, tensors, paths and keys that mean harm."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

MIB = 1 << 20
Request = tuple[str, str, dict[str, Any]]  # method, path, and what httpx is to send
_METADATA = "169.254.169.254"


def send_raw(url: str, request: bytes, *, whole: bool = False) -> int:
    """Send bytes as they are; returns the answer's status, or 0 if the connection was closed without one.

    Args:
        url: Scheme, host and port.
        request: All of the request; no client rewrites it.
        whole: Whether it is a whole request; otherwise the sending side is closed, so that nobody waits for the rest.
    """
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60 if whole else 15) as connection:
        with contextlib.suppress(OSError):  # it may hang up before it has heard everything
            connection.sendall(request)
            if not whole:
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while b"\r\n" not in answer and (more := connection.recv(4096)):
                answer += more
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return int(found[1]) if found else 0


def traversals(job_id: str) -> list[str]:
    """Return paths that try to leave the folder of results; clients such as httpx would shorten most before sending.

    Args:
        job_id: A job that is there.
    """
    steps = (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..%5c",
        "..\\",
        "..;/",
        "..%00/",
        "%c0%ae%c0%ae/",
    )
    files = ("webhook.key", "jobs.sqlite", "etc/passwd")
    paths = [f"/jobs/{job_id}/results/{step * depth}{file}" for step in steps for depth in (2, 6) for file in files]
    paths += [f"/jobs/{step * 3}{file}" for step in steps for file in files]
    paths += [f"/v2/models/{step * 4}etc/passwd" for step in steps]
    return [*paths, f"/jobs/{job_id}/results//etc/passwd", f"/jobs/{job_id}/results/", "/jobs//", "/jobs/%00"]


def hostile_requests(allowed: str) -> Iterator[tuple[str, Request]]:
    """Yield requests to send with a good key, each with its name.

    Args:
        allowed: Beginning of addresses that the endpoint takes for sources.
    """
    for name, data in _archives().items():
        yield f"ZIP: {name}", ("POST", "/jobs", {"files": {"archive": data}})
        yield f"ZIP as body: {name}", ("POST", "/jobs", {"content": data})
    for address in _addresses(allowed):
        yield f"source {address[:80]!a}", ("POST", "/jobs", _told({"sources": [address]}))
        yield f"webhook {address[:80]!a}", ("POST", "/jobs", _told({"sources": [allowed], "webhook": address}))
        yield f"target {address[:80]!a}", ("POST", "/jobs", _told({"sources": [allowed], "target": address}))
    for model in _models():
        yield f"job of model {model[:80]!a}", ("POST", "/jobs", _told({"sources": [allowed], "model": model}))
    for number, text in enumerate(_broken_json()):
        told: dict[str, Any] = {"content": text, "headers": {"Content-Type": "application/json"}}
        yield f"job from JSON {number}", ("POST", "/jobs", told)
        yield f"tensor from JSON {number}", ("POST", "/v2/models/u2netp/infer", told)
    many = [("images", (f"{number}.jpg", b"x")) for number in range(10_001)]
    yield "10,001 files", ("POST", "/jobs", {"files": many})
    yield "10,001 addresses", ("POST", "/jobs", _told({"sources": [f"{allowed}{n}" for n in range(10_001)]}))
    yield "1,000 fields", ("POST", "/jobs", {"data": {f"field{number}": "1" for number in range(1000)}})
    for key in ("", "k" * 256, "ä"):
        headers = {"Idempotency-Key": key.encode("latin-1")}
        yield f"idempotency key {key[:9]!a}", ("POST", "/jobs", {"content": b"x", "headers": headers})
    for query in ("offset=-1", "limit=1e9", "limit=%00", "offset=9999999999", "limit=\u0662", "offset=1&offset=x"):
        yield f"page {query!a}", ("GET", f"/jobs?{query}", {})
    for method in ("PUT", "PATCH", "TRACE", "DELETE"):
        yield f"{method} /jobs", (method, "/jobs", {})
    for option in (
        {"strokes": "/etc/passwd"},
        {"background": "/etc/passwd"},
        {"template": "/etc/passwd:x"},
        {"size": "9"},
    ):
        yield f"option {option}", ("POST", "/jobs", _told({"sources": [allowed], **option}))
    yield from _tensors()


def forged_calls(job_id: str) -> Iterator[tuple[str, Request]]:
    """Yield requests about a job with no key, a wrong key, or a key in the wrong place.

    Args:
        job_id: A job of somebody's.
    """
    basic = {"Authorization": "Basic b3BlbiBzZXNhbWU="}
    for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer"}, basic):
        for path in ("", f"/{job_id}", f"/{job_id}/results.zip", f"/{job_id}/results/a.png", "/webhook-secret"):
            yield f"GET /jobs{path} with {headers}", ("GET", f"/jobs{path}", {"headers": headers})
        yield f"DELETE with {headers}", ("DELETE", f"/jobs/{job_id}?purge=true", {"headers": headers})
        yield f"tensor with {headers}", ("POST", "/v2/models/u2netp/infer", {"headers": headers, "content": b"{}"})


def _told(value: Any) -> dict[str, Any]:
    """Return a body of JSON, also with half a character in it."""
    return {"content": json.dumps(value).encode(), "headers": {"Content-Type": "application/json"}}


def _archives() -> dict[str, bytes]:
    """Return ZIPs that are bombs, damaged, or hold what is never unpacked."""
    deflated, stored = zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED
    inner = _packed({"a.jpg": b"x"})
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = 0o120777 << 16
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    plain = _packed({"a.jpg": b"photo" * 100}, deflated)
    at = plain.rindex(b"PK\x01\x02")
    encrypted = plain[: at + 8] + b"\x01\x00" + plain[at + 10 :]
    lying = plain[: at + 24] + struct.pack("<I", 10) + plain[at + 28 :]
    method = plain[: at + 10] + b"\x63\x00" + plain[at + 12 :]
    names = (
        "../a.jpg",
        "/etc/passwd",
        "a/../../b.jpg",
        "..\\a.jpg",
        "C:/a.jpg",
        "d/" * 20 + "a.jpg",
        "n" * 600,
    )
    return {
        "bomb": _packed({"a.bmp": bytes(200 * MIB)}, deflated),
        "bombs": _packed({f"{number}.bmp": bytes(8 * MIB) for number in range(30)}, deflated),
        "ZIP in ZIP": _packed({"a.jpg": inner}, stored),
        "10,001 photos": _packed({f"{number}.jpg": b"x" for number in range(10_001)}, stored),
        "link": sink.getvalue(),
        "encrypted": encrypted,
        "size that lies": lying,
        "unknown method": method,
        "cut off": plain[:-30],
        "no end": plain[:60],
        "flipped": plain[:40] + bytes(byte ^ 0x5A for byte in plain[40:60]) + plain[60:],
        "empty": _packed({}),
        "null byte": _packed({"aX.jpg": b"x"}).replace(b"aX.jpg", b"a\x00.jpg"),
        "folders alone": _packed({"folder/": b""}),
        **{f"name {name[:20]!a}": _packed({name: b"x"}) for name in names},
    }


def _packed(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Pack files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return sink.getvalue()


def _addresses(allowed: str) -> list[str]:
    """Return addresses of files, of this machine, of private networks and metadata, and tricks with an allowed one."""
    hosts = [_METADATA, "127.0.0.1:22", "localhost", "[::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0.0.0.0"]
    hosts += [
        "10.0.0.1",
        "192.168.0.1",
        "100.100.100.200",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
    ]
    hosts += ["metadata.google.internal", f"{_METADATA}.nip.io", "rebind.example", f"user@{_METADATA}", "x" * 3000]
    tricks = [
        "../secret",
        "..;/secret",
        "%2e%2e/secret",
        "%252e%252e/secret",
        "..%00/secret",
        "..%5csecret",
        "a%0d%0aHost:x",
    ]
    schemes = [
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "gopher://127.0.0.1:6379/_INFO",
        "ftp://a/b",
        "data:,x",
    ]
    buckets = [
        "s3://secret/a",
        f"s3://b/a?endpoint_override={_METADATA}",
        "s3://key:secret@b/a",
        "dict://127.0.0.1:11211/",
    ]
    odd = [
        "",
        " ",
        "//x/a",
        "http:///a",
        "http://",
        "jar:http://a!/b",
        "http://a:99999/",
        "\x00",
        "\ud800",
        "https://ａ.example/",
    ]
    return [
        *(f"http://{host}/latest/meta-data/" for host in hosts),
        *(f"{allowed}{trick}" for trick in tricks),
        *schemes,
        *buckets,
        *odd,
        allowed.replace("http://", "http://evil.example/?"),
        allowed.replace("http://", "http://evil.example@"),
    ]


def _models() -> list[str]:
    """Return models that nobody serves."""
    names = [
        "u2net",
        "U2NETP",
        "/etc/passwd",
        "../../etc/passwd",
        "models:/shoes@champion",
        "https://evil.example/m.onnx",
    ]
    return [*names, "s3://b/m.onnx", "u2netp+u2net", "u2netp\x00", "\ud800", "x" * 5000, "{{7*7}}", "%s%n"]


def _broken_json() -> list[bytes]:
    """Return JSON that is none, is large in memory, or is of another kind."""
    texts = [
        "",
        "{",
        "[",
        "null",
        "true",
        "7",
        '"text"',
        "[1]",
        "{}",
        '{"sources":7}',
        '{"sources":null}',
        '{"sources":[7]}',
    ]
    texts += ['{"sources":{}}', '{"sources":["x"],"format":[]}', '{"sources":["x"],"format":{}}', '{"sources":["x"]}}']
    texts += [
        "NaN",
        "Infinity",
        '{"a":NaN}',
        "1e999999",
        "9" * 100_000,
        "{'a':1}",
        '{"a":1,}',
        '{"\\ud800":1}',
        "\ufeff{}",
    ]
    texts += [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"sources":[' + "[]," * 300_000 + "[]]}",
        '{"sources":["' + "a" * MIB + '"]}',
    ]
    bodies = [text.encode() for text in texts]
    return [
        *bodies,
        b"\xff\xfe{\x00}\x00",
        b"\x80abc",
        bytes(100),
        b'{"inputs":[' + b"{}," * MIB + b"{}]}",
        b"[" * (9 * MIB),
    ]


def _tensors() -> Iterator[tuple[str, Request]]:
    """Yield tensors that no model takes, and models that are not there."""
    good = {"name": "image", "datatype": "FP32", "shape": [1, 3, 320, 320]}
    wrong: list[dict[str, Any]] = [
        {"shape": [10**18, 3, 320, 320]},
        {"shape": [-1, 3, 320, 320]},
        {"shape": [1, 3, 320, 320.0]},
        {"shape": [2**63] * 4},
        {"shape": [[1]]},
        {"shape": None},
        {"datatype": "BYTES"},
        {"name": "../../etc/passwd"},
        {"data": None},
        {"data": {"a": 1}},
        {"data": [[[[0.5]]]]},
        {"data": ["0.5"] * 100},
        {"data": [1e308] * 307_200},
        {"data": [10**400]},
        {"parameters": {"binary_data_size": 2**63}},
        {"parameters": {"binary_data_size": 4}},
        {"parameters": {"shared_memory_region": "a"}},
        {"parameters": 7},
    ]
    path = "/v2/models/u2netp/infer"
    for change in wrong:
        name = json.dumps(change)[:60]
        head = json.dumps({"inputs": [{**good, **change}]}).encode()
        yield f"tensor {name}", ("POST", path, {"content": head})
        headers = {"Inference-Header-Content-Length": str(len(head))}
        yield f"raw tensor {name}", ("POST", path, {"content": head + b"\xff" * 400, "headers": headers})
    for length in ("-1", "0", "99999999999999999999", "1e3", "0x10", "", "65537"):
        headers = {"Inference-Header-Content-Length": length}
        yield f"header length {length!r}", ("POST", path, {"content": b"{}" + bytes(70_000), "headers": headers})
    yield "NaN", ("POST", path, _raw_tensor(good, struct.pack("<f", float("nan")) * 307_200))
    yield "infinity", ("POST", path, _raw_tensor(good, struct.pack("<f", float("inf")) * 307_200))
    yield "31 MiB of lists", ("POST", path, {"content": b'{"inputs":[' + b"[]," * (10 * MIB) + b"[]]}"})
    for model in _models():
        safe = "".join(letter if letter.isalnum() else f"%{ord(letter) % 256:02x}" for letter in model)
        yield f"infer {model[:60]!a}", ("POST", f"/v2/models/{safe}/infer", {"content": b"{}"})
        yield f"describe {model[:60]!a}", ("GET", f"/v2/models/{safe}", {})


def _raw_tensor(tensor: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Return a whole request with raw bytes."""
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}).encode()
    return {"content": head + data, "headers": {"Inference-Header-Content-Length": str(len(head))}}
