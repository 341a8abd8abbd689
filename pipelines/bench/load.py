"""The load test of a running endpoint: closed loop by concurrency, open loop by rate."""

from __future__ import annotations

import http.client
import json
import queue
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click
import numpy as np

from pipelines.bench.memory import memory_beside

_REFUSED = (429, 503)


@dataclass(slots=True)
class LoadStats:
    """What became of the requests.

    Attributes:
        done_s: Seconds from the moment a request was due to its good answer.
        refused_s: Seconds to each 429 or 503.
        failed: Number of each other status or error.
        elapsed_s: Seconds from the first request to the last answer.
        peak_bytes: Most memory that the process tree held at once.
    """

    done_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    elapsed_s: float = 0.0
    peak_bytes: int = 0


@click.command("serve")
@click.argument("photos", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--url", default="http://127.0.0.1:8000/remove-background", show_default=True, help="Where to send them.")
@click.option("--field", "name", default="image", show_default=True, help="Name of the form's file.")
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="Another field of the form, e.g. quality=fast."
)
@click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1, 512), help="Requests at a time.")
@click.option(
    "--rate", default=0.0, show_default=True, help="Requests per second, sent come what may; 0 is closed loop."
)
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1), help="How long.")
@click.option(
    "--api-key", envvar="CUTRAY_API_KEY", help="Key of an endpoint that asks for one; better in CUTRAY_API_KEY."
)
@click.option("--pid", type=int, help="Process of the endpoint, whose tree's memory is watched.")
def load(
    photos: tuple[Path, ...],
    url: str,
    name: str,
    options: tuple[str, ...],
    concurrency: int,
    rate: float,
    seconds: float,
    api_key: str | None,
    pid: int | None,
) -> int:
    """Send PHOTOS to a running endpoint and measure it.

    \b
    cutray bench serve photo.jpg                          four at a time, closed loop
    cutray bench serve photo.jpg --rate 50 --seconds 60   open loop: overload shows as refusals, not as a slow client
    CUTRAY_API_KEY=... cutray bench serve photo.jpg --url https://cut.example/remove-background
    """
    fields = dict(option.partition("=")[::2] for option in options)
    bodies = [form(path.read_bytes(), name, fields) for path in photos]
    headers = {"X-API-Key": api_key} if api_key else {}
    stats = run_load(url, bodies, concurrency=concurrency, rate=rate, seconds=seconds, pid=pid, headers=headers)
    facts = summarise(stats)
    for key, value in facts.items():
        click.echo(f"{key:<16}{value}")
    click.echo(json.dumps({"job": "bench serve", "concurrency": concurrency, "rate": rate, **facts}))
    return 1 if stats.failed else 0


def run_load(
    url: str,
    bodies: list[tuple[str, bytes]],
    *,
    concurrency: int,
    rate: float,
    seconds: float,
    pid: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> LoadStats:
    """Send requests for a while.

    In the open loop a request is due at its moment whether or not others have been answered, and its time counts
    from then on: a server that stalls cannot hide it by slowing its clients down.

    Args:
        url: Address that takes a form.
        bodies: Content type and bytes of each form, sent in turn.
        concurrency: Connections, in the closed loop the requests at a time.
        rate: Requests per second, or 0 for the closed loop.
        seconds: How long to send.
        pid: Process whose tree's memory is watched, or None.
        headers: Further headers of every request, such as an API key.

    Returns:
        What became of them.

    Raises:
        MissingExtraError: Memory is to be watched, and psutil is not installed.
    """
    stats, lock, due = LoadStats(), threading.Lock(), queue.SimpleQueue[float | None]()

    def work(number: int) -> None:
        sent = number
        while True:
            moment = due.get() if rate else time.perf_counter()
            if moment is None or (not rate and moment >= until):
                return
            status = _send(url, *bodies[sent % len(bodies)], headers or {})
            sent += concurrency
            with lock:
                _note(stats, status, time.perf_counter() - moment)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(concurrency)]
    with memory_beside(pid) as memory:
        started = time.perf_counter()
        until = started + seconds
        for thread in threads:
            thread.start()
        _pace(due, rate, until)
        for _ in threads:
            due.put(None)
        for thread in threads:
            thread.join()
        stats.elapsed_s = time.perf_counter() - started
    stats.peak_bytes = memory.peak_bytes
    return stats


def summarise(stats: LoadStats) -> dict[str, object]:
    """Return the figures for people and programs, times in milliseconds."""
    done = np.array(stats.done_s or [float("nan")]) * 1000
    return {
        "per_second": round(len(stats.done_s) / stats.elapsed_s, 2),
        "p50_ms": round(float(np.percentile(done, 50))) if stats.done_s else None,
        "p95_ms": round(float(np.percentile(done, 95))) if stats.done_s else None,
        "p99_ms": round(float(np.percentile(done, 99))) if stats.done_s else None,
        "done": len(stats.done_s),
        "refused": len(stats.refused_s),
        "refused_p99_ms": round(float(np.percentile(stats.refused_s, 99)) * 1000) if stats.refused_s else None,
        "failed": stats.failed or 0,
        "peak_mib": round(stats.peak_bytes / (1 << 20)) or None,
    }


def _pace(due: queue.SimpleQueue[float | None], rate: float, until: float) -> None:
    """Hand out moments at the rate."""
    moment = time.perf_counter()
    while (now := time.perf_counter()) < until:
        while rate and moment <= now:
            due.put(moment)
            moment += 1 / rate
        time.sleep(min(0.5, max(0.001, moment - now)) if rate else 0.2)


def form(data: bytes, name: str, fields: Mapping[str, str]) -> tuple[str, bytes]:
    """Put a photo into a form.

    Args:
        data: The photo's file.
        name: The form's field for it.
        fields: The other fields.

    Returns:
        Content type and body.
    """
    boundary = secrets.token_hex(16)
    parts = [f'name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields.items()]
    parts.append(f'name="{name}"; filename="photo"\r\n\r\n'.encode() + data + b"\r\n")
    head = f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
    return f"multipart/form-data; boundary={boundary}", head + head.join(parts) + f"--{boundary}--\r\n".encode()


def _send(url: str, content_type: str, body: bytes, headers: Mapping[str, str]) -> str:
    """Send one request over a new connection; returns its status, or what was wrong with the answer."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=120)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("POST", target, body, {**headers, "Content-Type": content_type})
        answer = connection.getresponse()
        answer.read()
        if answer.status in _REFUSED and not answer.getheader("Retry-After"):
            return f"{answer.status} without Retry-After"
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def _note(stats: LoadStats, status: str, spent_s: float) -> None:
    """Count one answer."""
    if status == "200":
        stats.done_s.append(spent_s)
    elif status in map(str, _REFUSED):
        stats.refused_s.append(spent_s)
    else:
        stats.failed[status] = stats.failed.get(status, 0) + 1
