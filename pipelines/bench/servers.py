"""Two servers on one machine, ours and rembg's, under the same load: throughput, latency and memory."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

from cutray.config import EFFORTS
from cutray.engines.hardware import inspect_hardware
from cutray.errors import EngineError
from cutray.models.weights import resolve
from pipelines.bench.load import LoadStats, form, run_load
from pipelines.bench.pages import check_page, describe_machine, model_options, page_options, write_page
from pipelines.bench.photo import peer_versions
from pipelines.bench.photos import photos_of_size
from pipelines.bench.processes import free_port, running

_MIB = 1 << 20
_REMBG = "rembg"
_WARM_UP_S = 2.0
_SETTLE_S = 8.0  # servers that are ready may still be starting more processes
# One pass of the network at full attention; what takes less of everybody's time gets a part of it.
_SHARE = {_REMBG: 1.5, "fast": 1.0, "balanced": 0.5, "best": 0.5}


@dataclass(slots=True)
class _ServerStats:
    """All answers of one server at one level of concurrency.

    Attributes:
        done_s: Seconds to each good answer.
        elapsed_s: Seconds of all rounds together.
        lost: Answers that were refusals or failures.
        peak_bytes: Most memory that its processes held.
    """

    done_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    lost: int = 0
    peak_bytes: int = 0

    def add(self, stats: LoadStats) -> None:
        """Add one round."""
        self.done_s += stats.done_s
        self.elapsed_s += stats.elapsed_s
        self.lost += len(stats.refused_s) + sum(stats.failed.values())
        self.peak_bytes = max(self.peak_bytes, stats.peak_bytes)

    @property
    def per_s(self) -> float:
        """Photos per second."""
        return len(self.done_s) / self.elapsed_s

    def percentile_s(self, share: float) -> float:
        """Return the time within which this share of the answers came."""
        return float(np.percentile(self.done_s, share)) if self.done_s else float("nan")


@click.command("servers")
@click.option("--rembg", type=click.Path(path_type=Path), help="The program rembg; without it only we run.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photos; scikit-image's samples by default.")
@model_options
@click.option("--size-mp", default=0.5, show_default=True, help="Size of the photos, in megapixels.")
@click.option("--concurrency", default="1,4,16", show_default=True, help="Requests at a time.")
@click.option("--seconds", default=14.0, show_default=True, help="How long `fast` is measured at each, per round.")
@click.option("-r", "--rounds", default=2, show_default=True, type=click.IntRange(1), help="How often they take turns.")
@page_options
def servers(
    rembg: Path | None,
    images: Path | None,
    model: str,
    rembg_model: str,
    size_mp: float,
    concurrency: str,
    seconds: float,
    rounds: int,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure `cutray serve` side by side with `rembg s`.

    Each server is started, asked, and ended, and then the other one; never both at once. Requests come one after the
    other on a number of connections, which is the kind of load that a slow server suffers least from.

    \b
    cutray bench servers --rembg .venv-rembg/bin/rembg -o docs/benchmarks/endpoint.md
    """
    check_page(output, overwrite=overwrite)
    levels = [int(text) for text in concurrency.split(",")]
    rows = {(name, level): _ServerStats() for name in _SHARE for level in levels}
    starts_s: dict[str, list[float]] = {"Cutray": [], _REMBG: []}
    with tempfile.TemporaryDirectory(prefix="cutray-bench-") as folder:
        place = Path(folder)
        photos = [path.read_bytes() for path in photos_of_size(images, size_mp, place)]
        for _ in range(rounds):
            if rembg:
                started = time.perf_counter()
                with _theirs(rembg, rembg_model, place) as (url, pid):
                    starts_s[_REMBG].append(time.perf_counter() - started)
                    time.sleep(_SETTLE_S)
                    bodies = [form(photo, "file", {"model": rembg_model}) for photo in photos]
                    for level in levels:
                        _measure(rows[_REMBG, level], url, bodies, level, seconds * _SHARE[_REMBG], pid)
            started = time.perf_counter()
            with _ours(model, place) as (url, pid):
                starts_s["Cutray"].append(time.perf_counter() - started)
                time.sleep(_SETTLE_S)
                for level in levels:
                    for quality in EFFORTS:
                        bodies = [form(photo, "image", {"quality": quality}) for photo in photos]
                        _measure(rows[quality, level], url, bodies, level, seconds * _SHARE[quality], pid)
    rows = {key: row for key, row in rows.items() if row.elapsed_s}
    text = _page(rows, levels, (model, rembg_model, size_mp, len(photos), rounds), rembg)
    for name, times in starts_s.items():
        if times:
            text += f"\n{name} was ready {' and '.join(f'{spent:.1f}' for spent in times)} s after its start.\n"
    click.echo(text)
    write_page(output, text, overwrite=overwrite)
    facts = {f"{name} at {level}": round(row.per_s, 2) for (name, level), row in rows.items()}
    click.echo(json.dumps({"job": "bench servers", "photos_per_s": facts}))
    if lost := {f"{name} at {level}": row.lost for (name, level), row in rows.items() if row.lost}:
        raise EngineError(got=f"requests without a result: {lost}", fix="look at the server by itself")


def _measure(
    row: _ServerStats, url: str, bodies: Sequence[tuple[str, bytes]], concurrency: int, seconds: float, pid: int
) -> None:
    """Load a server for a while; the first seconds warm it up and are not counted."""
    run_load(url, list(bodies), concurrency=concurrency, rate=0, seconds=_WARM_UP_S)
    row.add(run_load(url, list(bodies), concurrency=concurrency, rate=0, seconds=seconds, pid=pid))


@contextmanager
def _ours(model: str, place: Path) -> Iterator[tuple[str, int]]:
    """Run `cutray serve` as it is shipped; yields its address and process."""
    port = free_port()
    command = [sys.executable, "-m", "cutray.cli", "serve", "-m", model]
    command += ["--port", str(port), "--metrics-port", str(free_port())]
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/ready", place / "ours.log") as process:
        yield f"{address}/remove-background", process.pid


@contextmanager
def _theirs(rembg: Path, model: str, place: Path) -> Iterator[tuple[str, int]]:
    """Run `rembg s`; yields its address and process."""
    port = free_port()
    command = [str(rembg), "s", "--host", "127.0.0.1", "--port", str(port), "--log_level", "error", "--no-ui"]
    environment = {**os.environ, "U2NET_HOME": str(resolve(model).path.parent)}
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/openapi.json", place / "theirs.log", environment=environment) as process:
        yield f"{address}/api/remove", process.pid


def _page(
    rows: Mapping[tuple[str, int], _ServerStats],
    levels: Sequence[int],
    given: tuple[str, str, float, int, int],
    rembg: Path | None,
) -> str:
    """Write the table with all that is needed to repeat it."""
    model, rembg_model, size_mp, photos, rounds = given
    hardware = inspect_hardware()
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "openvino", "numpy", "pillow", "isal"))
    lines = [
        "# Speed of the endpoint",
        "",
        f"Written by `cutray bench servers`. {photos} JPEGs of {size_mp:g} MP in turn, PNGs back; servers and clients"
        " share the machine.",
        f"Each server is started, measured and ended, then the other one, {rounds} rounds. Like for like is `fast`: one"
        " pass of the network,",
        "as in rembg. Memory is the most that all processes of a server held at once, shared pages counted once.",
        "",
        f"{describe_machine(hardware)} Model: {model}.",
        f"Cutray: `cutray serve -m {model}` with its own YAML; {packages}.",
    ]
    if rembg:
        lines.append(f"rembg: `rembg s --no-ui`, model={rembg_model}; {peer_versions(rembg.with_name('python'))}.")
    lines += ["", "| requests at a time | | photos/s | × rembg | p50, s | p99, s | answers | failed | memory, MB |"]
    lines += ["|--:|---" + "|--:" * 7 + "|"]
    for level in levels:
        base = rows.get((_REMBG, level))
        for name in _SHARE:
            if row := rows.get((name, level)):
                lines.append(_line(name, level, row, base))
    return "\n".join(lines) + "\n"


def _line(name: str, level: int, row: _ServerStats, base: _ServerStats | None) -> str:
    """Write one row."""
    times = f"{row.per_s / base.per_s:.1f}" if base else "–"
    cells = [str(level), name, f"{row.per_s:.2f}", times, f"{row.percentile_s(50):.2f}", f"{row.percentile_s(99):.2f}"]
    cells += [str(len(row.done_s)), str(row.lost), f"{row.peak_bytes / _MIB:.0f}"]
    return f"| {' | '.join(cells)} |"
