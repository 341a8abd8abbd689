"""How fast a whole folder goes, side by side with rembg, how much memory that takes, and what the job itself costs."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from cutray.engines.hardware import inspect_hardware
from cutray.errors import EngineError
from cutray.imaging.files import write_atomically
from cutray.models.weights import resolve
from pipelines.bench_memory import Run, run_watched
from pipelines.bench_photos import mixed_photos
from pipelines.bench_speed import peer_versions

_MIB = 1 << 20
_EMPTY_FEW, _EMPTY_MANY = 100, 2100


@dataclass(frozen=True, slots=True)
class _Side:
    """One program over one folder."""

    name: str
    photos: int
    run: Run
    steady_per_s: float | None = None

    @property
    def per_s(self) -> float:
        """Photos per second from the start of the program to its end."""
        return self.photos / self.run.seconds


@click.command("batch", context_settings={"ignore_unknown_options": True})
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photos; scikit-image's samples by default.")
@click.option("-n", "--photos", default=1000, show_default=True, type=click.IntRange(1), help="Photos for the speed.")
@click.option(
    "--memory-at", default="200,2000", show_default=True, help="Numbers of photos for the memory; empty leaves it out."
)
@click.option("--rembg", type=click.Path(path_type=Path), help="The program rembg; without it only we run.")
@click.option("-m", "--model", default="u2net", show_default=True, help="Model that both sides run.")
@click.option("--overhead/--no-overhead", default=True, show_default=True, help="Measure what the job itself costs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the tables to this file (Markdown).")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def batch_speed(
    images: Path | None,
    photos: int,
    memory_at: str,
    rembg: Path | None,
    model: str,
    overhead: bool,
    output: Path | None,
    options: tuple[str, ...],
) -> None:
    """Measure a whole folder of mixed photos, side by side with rembg.

    Both sides are programs that are started, work through the same folder one after the other, and end. OPTIONS go to
    `cutray batch`.

    \b
    cutray bench batch --rembg .venv-rembg/bin/rembg -o docs/benchmarks-batch.md
    cutray bench batch -n 20 --memory-at ''  -- --threads 1
    """
    weights = resolve(model)
    environment = {**os.environ, "U2NET_HOME": str(weights.path.parent)}
    with tempfile.TemporaryDirectory(prefix="cutray-bench-") as folder:
        place = Path(folder)
        facts = _fill(place / "photos", images, photos)
        ours = _ours(place, photos, model, options)
        theirs = _theirs(place, photos, model, rembg, environment) if rembg else None
        memory = []
        for number in sorted(int(text) for text in memory_at.split(",") if text.strip()):
            _fill(place / "photos", images, number)
            memory.append(_ours(place, number, model, options))
        cost = _overhead(place, model, options) if overhead else None
    text = _page(ours, theirs, memory, cost, facts, (model, options, rembg))
    click.echo(text)
    if output is not None:
        write_atomically(output, text.encode(), overwrite=True)
    ratio = ours.per_s / theirs.per_s if theirs else None
    click.echo(json.dumps({"job": "bench batch", "photos_per_s": ours.per_s, "times_rembg": ratio}))


def _fill(folder: Path, images: Path | None, number: int) -> dict[str, float]:
    """Write the photos into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return mixed_photos(images, number, folder)


def _ours(place: Path, number: int, model: str, options: Sequence[str]) -> _Side:
    """Run our job over the folder."""
    run, summary = _job(place, model, options)
    if run.returncode or summary["done"] + summary["no_subject"] != number:
        raise EngineError(got=f"the batch failed: {run.stderr.strip().splitlines()[-1:]}", fix="run it by itself")
    return _Side("Cutray", number, run, summary["photos_per_s"])


def _job(place: Path, model: str, options: Sequence[str]) -> tuple[Run, dict[str, Any]]:
    """Start `cutray batch`, wait for it, and drop its results."""
    command = [sys.executable, "-m", "pipelines.batch_remove", str(place / "photos"), str(place / "out"), "-m", model]
    run = run_watched([*command, *options], os.environ)
    shutil.rmtree(place / "out", ignore_errors=True)
    lines = run.stdout.strip().splitlines()
    if not lines:
        raise EngineError(got=f"the batch failed: {run.stderr.strip()[-500:]}", fix="run it by itself")
    return run, json.loads(lines[-1])


def _theirs(place: Path, number: int, model: str, rembg: Path, environment: dict[str, str]) -> _Side:
    """Run rembg over the folder."""
    run = run_watched([str(rembg), "p", "-m", model, str(place / "photos"), str(place / "theirs")], environment)
    made = sum(path.suffix == ".png" for path in (place / "theirs").rglob("*")) if (place / "theirs").exists() else 0
    shutil.rmtree(place / "theirs", ignore_errors=True)
    if run.returncode or made != number:
        raise EngineError(
            got=f"rembg made {made} of {number} cutouts: {run.stderr.strip()[-300:]}", fix="run `rembg p` by itself"
        )
    return _Side("rembg", number, run)


def _overhead(place: Path, model: str, options: Sequence[str]) -> tuple[float, float]:
    """Measure the job without its photos: empty files go all the way through it and fail in no time.

    Returns:
        Seconds before the first photo and after the last, and milliseconds per photo.
    """
    seconds = {}
    for number in (_EMPTY_FEW, _EMPTY_MANY):
        shutil.rmtree(place / "photos")
        (place / "photos").mkdir()
        for index in range(number):
            (place / "photos" / f"{index:05d}.jpg").touch()
        seconds[number] = statistics.median(_job(place, model, options)[0].seconds for _ in range(3))
    each_s = (seconds[_EMPTY_MANY] - seconds[_EMPTY_FEW]) / (_EMPTY_MANY - _EMPTY_FEW)
    return seconds[_EMPTY_FEW] - each_s * _EMPTY_FEW, each_s * 1000


def _page(
    ours: _Side,
    theirs: _Side | None,
    memory: Sequence[_Side],
    cost: tuple[float, float] | None,
    facts: dict[str, float],
    given: tuple[str, Sequence[str], Path | None],
) -> str:
    """Write the tables with all that is needed to repeat them."""
    model, options, rembg = given
    hardware = inspect_hardware()
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "openvino", "numpy", "pillow", "isal"))
    lines = [
        "# Speed of a whole folder",
        "",
        "Written by `cutray bench batch`. Each side is a program that starts, works through the same folder and ends;",
        f"all of that is counted. {ours.photos} photos of 0.2 to 12 MP (evenly over the logarithm, mean"
        f" {facts['mean_mp']:.1f} MP, {facts['bytes'] / 1e6:.0f} MB), seven in ten JPEG, the others PNG and WebP.",
        "Memory is the most that all processes of a side held at once, shared pages counted once.",
        "",
        f"Machine: {hardware.cpu_name}, {hardware.cores} cores. Model: {model}.",
        f"Cutray: `cutray batch IN OUT -m {' '.join([model, *options])}`; {packages}.",
    ]
    if rembg:
        lines.append(f"rembg: `rembg p -m {model} IN OUT`; {peer_versions(rembg.with_name('python'))}.")
    lines += ["", "| | photos/s | seconds | peak memory, MB |", "|---|--:|--:|--:|"]
    lines += [
        f"| {side.name} | {side.per_s:.2f} | {side.run.seconds:.0f} | {side.run.peak_bytes / _MIB:.0f} |"
        for side in (theirs, ours)
        if side is not None
    ]
    if theirs:
        lines += ["", f"Cutray is {ours.per_s / theirs.per_s:.1f} times as fast."]
    if ours.steady_per_s:
        lines += ["", f"Between its start and its end Cutray does {ours.steady_per_s:.2f} photos/s."]
    if memory:
        lines += ["", "Memory by the number of photos:", "", "| photos | peak memory, MB | photos/s |", "|--:|--:|--:|"]
        lines += [f"| {side.photos} | {side.run.peak_bytes / _MIB:.0f} | {side.per_s:.2f} |" for side in memory]
    if cost:
        lines += [
            "",
            f"What the job costs beside the photos: {cost[0]:.1f} s for start and end, {cost[1]:.1f} ms per photo"
            f" (from {_EMPTY_FEW} and {_EMPTY_MANY} empty files, which fail at once; medians of 3 runs).",
        ]
    return "\n".join(lines) + "\n"
