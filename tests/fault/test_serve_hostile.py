"""Uploads that mean harm: hostile files, broken requests, everything the description allows, and a body without end."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_weights
from tests.hostile import BOMBS, impostors, small_samples

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from tests.drills import Drill, Vitals, watched  # noqa: E402
from tests.endpoint import Process, replicas, running, write_config  # noqa: E402
from tests.hostile_requests import send_raw  # noqa: E402
from tests.hosts import wait_until  # noqa: E402

pytestmark = pytest.mark.fault
MIB = 1 << 20
KINDS = 60
EXAMPLES = 25  # per operation of the description and phase
Endpoint = tuple[str, Process]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Run the endpoint with the small model."""
    require_weights("u2netp")
    config = write_config(tmp_path_factory.mktemp("serve") / "serve.yaml")
    with running(config, "--model", "u2netp", "--offline") as (url, process):
        both_up = lambda: all(len(replicas(process, name)) == 2 for name in ("Cutter", "Segmenter"))  # noqa: E731
        wait_until(both_up, "the second replicas are up", 60)  # they are no growth
        yield url, process


def _hostile_files() -> dict[str, bytes]:
    """Return bombs, impostors, and every kind of picture cut off, with flipped bytes, and with a tail."""
    files = {**{name: make() for name, make in BOMBS.items()}, **impostors()}
    chance = np.random.default_rng(3)
    for name, data in small_samples().items():
        flipped = np.frombuffer(data, np.uint8).copy()
        flipped[chance.integers(4, len(data), 12)] ^= 0x5A
        files |= {
            f"half of {name}": data[: len(data) // 2],
            f"flipped {name}": flipped.tobytes(),
            f"{name} with a tail": data + chance.bytes(5000),
        }
    return files


# Written by hand, because no client would send them.
_START = b"POST /remove-background HTTP/1.1\r\nHost: x\r\n"
_FORM = _START + b"Content-Type: multipart/form-data; boundary=b\r\n"


def _with_body(head: bytes, body: bytes) -> bytes:
    return head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


BROKEN_REQUESTS: Mapping[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300) + b"\r\n\r\n",
    "unknown method": b"BREW /remove-background HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": _START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": _START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": _START + b"Content-Length: -1\r\n\r\n",
    "length in words": _START + b"Content-Length: many\r\n\r\n",
    "chunk size in words": _START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "huge chunk size": _START + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n",
    "long target": b"POST /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": _START + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "climbing path": b"GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded climbing path": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "nothing in the form": _with_body(_FORM, b""),
    "form without an end": _with_body(_FORM, b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nhello'),
    "form of other boundary": _with_body(_FORM, b"--c\r\n\r\nhello\r\n--c--\r\n"),
    "form without a boundary": _with_body(_START + b"Content-Type: multipart/form-data\r\n", b"hello"),
    "form of a thousand parts": _with_body(
        _FORM, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 1000 + b"--b--\r\n"
    ),
    "part with a megabyte of name": _with_body(
        _FORM, b'--b\r\nContent-Disposition: form-data; name="' + b"n" * MIB + b'"\r\n\r\n1\r\n--b--\r\n'
    ),
    "field that is no text": _with_body(
        _FORM, b'--b\r\nContent-Disposition: form-data; name="format"\r\n\r\n\xff\xfe\xfd\r\n--b--\r\n'
    ),
    "forbidden headers": _START + b"X-Request-Timeout-Seconds: 0\r\nX-Request-ID: " + b"i" * 5000 + b"\r\n\r\n",
    "zipped body": _with_body(_START + b"Content-Encoding: gzip\r\n", b"\x1f\x8b\x08" + bytes(30)),
    "upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
}


def _well(vitals: Vitals) -> bool:
    """Say whether the endpoint was in good health throughout."""
    return max(vitals.health_s) < 1 and vitals.restarted == []


def test_hostile_uploads_are_refused(endpoint: Endpoint) -> None:
    """No file and no broken request of more than 60 kinds causes a 5xx, a lost process or a slow /health."""
    url, process = endpoint
    files, statuses = _hostile_files(), {}
    with watched(url, process) as vitals, httpx.Client(base_url=url, timeout=60) as client:
        for name, data in files.items():
            statuses[name] = client.post("/remove-background?quality=fast", files={"image": data}).status_code
        for name, request in BROKEN_REQUESTS.items():
            statuses[name] = send_raw(url, request)
    bad = {name: status for name, status in statuses.items() if status >= 500}
    Drill(
        "hostile files and broken requests",
        len(statuses),
        len(bad),
        during_s=max(vitals.health_s),
        memory_bytes=(vitals.before_bytes, vitals.most_bytes),
        detail=f" ({len(statuses)} kinds; the time is the slowest /health)",
    ).record()
    assert len(files) >= KINDS
    assert bad == {}
    assert _well(vitals), vitals


def test_all_that_the_description_allows_is_answered(endpoint: Endpoint, tmp_path: Path) -> None:
    """Requests made up from the OpenAPI document, valid or not, get no 5xx, and answers that it describes."""
    pytest.importorskip("schemathesis")
    url, process = endpoint
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", checks]
    command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic", "--no-color"]
    command += ["--request-timeout", "60", "--max-time", "3000"]
    with watched(url, process) as vitals:
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3300)
    generated = re.search(r"(\d+) generated", run.stdout)
    count = int(generated[1]) if generated else 0
    Drill(
        "requests made up from the OpenAPI document",
        count,
        run.returncode,
        during_s=max(vitals.health_s),
        memory_bytes=(vitals.before_bytes, vitals.most_bytes),
        detail=" (schemathesis; the time is the slowest /health)",
    ).record()
    assert run.returncode == 0, run.stdout[-3000:]
    assert count > 300
    assert _well(vitals), vitals


def test_endless_body_is_cut_off(endpoint: Endpoint) -> None:
    """A client that sends 2 GB in chunks and does not care for the answer gets 413, and no process grows by it."""
    url, process = endpoint
    host, port = url.removeprefix("http://").split(":")
    chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
    answer, sent = b"", 0
    with watched(url, process) as vitals, socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(_START + b"Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):  # it hangs up, as it should
            while sent < 2048:
                connection.sendall(chunk)
                sent += 1
                if select.select([connection], [], [], 0)[0]:
                    answer += connection.recv(4096)
        with contextlib.suppress(OSError):
            answer += connection.recv(4096)
    Drill(
        "2 GB in chunks",
        1,
        int(b" 413 " not in answer[:20]),
        during_s=max(vitals.health_s),
        memory_bytes=(vitals.before_bytes, vitals.most_bytes),
        detail=f" (hung up after {sent} MiB; the time is the slowest /health)",
    ).record()
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert vitals.most_bytes - vitals.before_bytes < 100 * MIB
    assert _well(vitals), vitals
