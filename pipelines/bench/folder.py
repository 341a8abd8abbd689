"""How fast a whole folder goes, side by side with rembg, how much memory that takes, and what the job itself costs."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from cutray.engines.hardware import inspect_hardware
from cutray.errors import EngineError
from cutray.imaging.files import write_atomically
from cutray.models.weights import resolve
from pipelines.bench.memory import Run, run_watched
from pipelines.bench.pages import check_page, describe_machine, model_options, page_options, write_page
from pipelines.bench.photo import peer_versions
from pipelines.bench.photos import mixed_photos

_MIB = 1 << 20
_EMPTY_FEW, _EMPTY_MANY = 100, 2100


@dataclass(frozen=True, slots=True)
class _Side:
    """One program over one folder."""

    name: str
    photos: int
    seconds: float
    peak_bytes: int
    steady_per_s: float | None = None

    @property
    def per_s(self) -> float:
        """Photos per second from the start of the program to its end."""
        return self.photos / self.seconds


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is measured, and the folder for photos and figures.

    Attributes:
        place: The folder.
        images: Folder of source photos, or None for scikit-image's samples.
        model: Our model.
        rembg_model: rembg's model.
        options: For `cutray batch`.
        only: Parts to measure now; all if there are none.
    """

    place: Path
    images: Path | None
    model: str
    rembg_model: str
    options: Sequence[str]
    only: Sequence[str]

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return the figures of a part: those in the folder, or new ones, which are kept there at once."""
        file = self.place / f"{name}.json"
        if file.exists():
            kept: dict[str, Any] = json.loads(file.read_text())
            return kept
        if self.only and name not in self.only:
            return None
        figures = measure()
        write_atomically(file, json.dumps(figures).encode(), overwrite=True)
        return figures

    def photos(self, number: int, every: int = 1) -> tuple[Path, dict[str, float]]:
        """Return a folder of mixed photos, or of every so-manieth of them, and their mean size and bytes."""
        folder, facts = self.place / f"photos-{number}", self.place / f"photos-{number}.json"
        if not facts.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_atomically(facts, json.dumps(mixed_photos(self.images, number, folder)).encode(), overwrite=True)
        known: dict[str, float] = json.loads(facts.read_text())
        if every == 1:
            return folder, known
        sample = self.place / f"photos-{number}-{every}"
        shutil.rmtree(sample, ignore_errors=True)
        sample.mkdir()
        for path in sorted(folder.iterdir())[::every]:
            shutil.copy(path, sample)
        return sample, known


@click.command("batch", context_settings={"ignore_unknown_options": True})
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photos; scikit-image's samples by default.")
@click.option("-n", "--photos", default=1000, show_default=True, type=click.IntRange(1), help="Photos for the speed.")
@click.option(
    "--memory-at", default="200,2000", show_default=True, help="Numbers of photos for the memory; empty leaves it out."
)
@click.option("--rembg", type=click.Path(path_type=Path), help="The program rembg; without it only we run.")
@click.option(
    "--rembg-every", default=1, show_default=True, type=click.IntRange(1), help="Give rembg every so-manieth photo."
)
@model_options
@click.option("--overhead/--no-overhead", default=True, show_default=True, help="Measure what the job itself costs.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Keep photos and figures in this folder; figures that are there are not measured again.",
)
@click.option(
    "--only", multiple=True, help="Measure only this part now: photos, rembg, beside-rembg, cutray-NUMBER, overhead."
)
@page_options
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def batch_speed(
    images: Path | None,
    photos: int,
    memory_at: str,
    rembg: Path | None,
    rembg_every: int,
    model: str,
    rembg_model: str,
    overhead: bool,
    work: Path | None,
    only: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    options: tuple[str, ...],
) -> None:
    """Measure a whole folder of mixed photos, side by side with rembg.

    Both sides are programs that are started, work through the same folder one after the other, and end. OPTIONS go to
    `cutray batch`. A long measurement can be done in pieces, with --work and --only.

    \b
    cutray bench batch --rembg .venv-rembg/bin/rembg -o docs/benchmarks/folder.md
    cutray bench batch -n 20 --memory-at ''  -- --threads 1
    cutray bench batch --work bench/ --only cutray-1000
    """
    check_page(output, overwrite=overwrite)
    numbers = sorted({photos, *(int(text) for text in memory_at.split(",") if text.strip())})
    with ExitStack() as stack:
        place = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cutray-bench-")))
        place.mkdir(parents=True, exist_ok=True)
        bench = _Bench(place, images, model, rembg_model, options, only)
        facts = [bench.photos(number)[1] for number in numbers][numbers.index(photos)]
        theirs = beside = None
        if rembg:
            theirs = bench.part("rembg", partial(_theirs, bench, photos, rembg_every, rembg))
            if rembg_every > 1:
                beside = bench.part("beside-rembg", partial(_ours, bench, photos, rembg_every))
        ours = [bench.part(f"cutray-{number}", partial(_ours, bench, number)) for number in numbers]
        cost = bench.part("overhead", partial(_overhead, bench)) if overhead else None
    sides = {name: _Side(**side) if side else None for name, side in (("theirs", theirs), ("beside", beside))}
    runs = [_Side(**side) for side in (beside, *ours) if side]
    mine = next((side for side in runs if side.photos == photos), None)
    if mine is None:
        click.echo(json.dumps({"job": "bench batch", "measured": list(only)}))
        return
    text = _page(mine, sides["theirs"], sides["beside"], runs, cost, facts, (model, rembg_model, options, rembg))
    click.echo(text)
    write_page(output, text, overwrite=overwrite)
    peer = sides["theirs"]
    ratio = mine.per_s / peer.per_s if peer else None
    click.echo(json.dumps({"job": "bench batch", "photos_per_s": mine.per_s, "times_rembg": ratio}))


def _ours(bench: _Bench, number: int, every: int = 1) -> dict[str, Any]:
    """Run our job over a folder."""
    folder, _ = bench.photos(number, every)
    expected = len(list(folder.iterdir()))
    run, summary = _job(folder, bench)
    if run.returncode or summary["done"] + summary["no_subject"] != expected:
        raise EngineError(got=f"the batch failed: {run.stderr.strip().splitlines()[-1:]}", fix="run it by itself")
    return asdict(_Side("Cutray", expected, run.seconds, run.peak_bytes, summary["photos_per_s"]))


def _job(folder: Path, bench: _Bench) -> tuple[Run, dict[str, Any]]:
    """Start `cutray batch`, wait for it, and drop its results."""
    target = bench.place / "out"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pipelines.batch_remove", str(folder), str(target), "-m", bench.model]
    run = run_watched([*command, *bench.options], os.environ)
    shutil.rmtree(target, ignore_errors=True)
    lines = run.stdout.strip().splitlines()
    if not lines:
        raise EngineError(got=f"the batch failed: {run.stderr.strip()[-500:]}", fix="run it by itself")
    return run, json.loads(lines[-1])


def _theirs(bench: _Bench, number: int, every: int, rembg: Path) -> dict[str, Any]:
    """Run rembg over every so-manieth photo."""
    environment = {**os.environ, "U2NET_HOME": str(resolve(bench.rembg_model).path.parent)}
    folder, _ = bench.photos(number, every)
    expected, target = len(list(folder.iterdir())), bench.place / "theirs"
    shutil.rmtree(target, ignore_errors=True)
    run = run_watched([str(rembg), "p", "-m", bench.rembg_model, str(folder), str(target)], environment)
    made = sum(path.suffix == ".png" for path in target.rglob("*")) if target.exists() else 0
    shutil.rmtree(target, ignore_errors=True)
    if run.returncode or made != expected:
        raise EngineError(
            got=f"rembg made {made} of {expected} cutouts: {run.stderr.strip()[-300:]}", fix="run `rembg p` by itself"
        )
    return asdict(_Side("rembg", expected, run.seconds, run.peak_bytes))


def _overhead(bench: _Bench) -> dict[str, float]:
    """Measure the job without its photos: empty files go all the way through it and fail in no time.

    Returns:
        Seconds before the first photo and after the last, and milliseconds per photo.
    """
    seconds = {}
    for number in (_EMPTY_FEW, _EMPTY_MANY):
        folder = bench.place / f"empty-{number}"
        folder.mkdir(exist_ok=True)
        for index in range(number):
            (folder / f"{index:05d}.jpg").touch()
        seconds[number] = statistics.median(_job(folder, bench)[0].seconds for _ in range(3))
    each_s = (seconds[_EMPTY_MANY] - seconds[_EMPTY_FEW]) / (_EMPTY_MANY - _EMPTY_FEW)
    return {"start_s": seconds[_EMPTY_FEW] - each_s * _EMPTY_FEW, "photo_ms": each_s * 1000}


def _page(
    ours: _Side,
    theirs: _Side | None,
    beside: _Side | None,
    runs: Sequence[_Side],
    cost: dict[str, float] | None,
    facts: dict[str, float],
    given: tuple[str, str, Sequence[str], Path | None],
) -> str:
    """Write the tables with all that is needed to repeat them."""
    model, rembg_model, options, rembg = given
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
        f"{describe_machine(hardware)} Model: {model}.",
        f"Cutray: `cutray batch IN OUT -m {' '.join([model, *options])}`; {packages}.",
    ]
    if rembg:
        lines.append(f"rembg: `rembg p -m {rembg_model} IN OUT`; {peer_versions(rembg.with_name('python'))}.")
    if theirs and beside:
        lines += ["", f"rembg is slow, so it did every {round(ours.photos / theirs.photos)}th photo only; Cutray did"]
        lines += ["the same ones too, in a run of its own, and then all."]
    lines += ["", "| | photos | photos/s | seconds | peak memory, MB |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {side.name} | {side.photos} | {side.per_s:.2f} | {side.seconds:.0f} | {side.peak_bytes / _MIB:.0f} |"
        for side in (theirs, beside, ours)
        if side is not None
    ]
    if theirs:
        lines += ["", f"Cutray is {ours.per_s / theirs.per_s:.1f} times as fast"]
        lines[-1] += f"; on the same {theirs.photos} photos {beside.per_s / theirs.per_s:.1f} times." if beside else "."
    if ours.steady_per_s:
        lines += ["", f"Between its start and its end Cutray does {ours.steady_per_s:.2f} photos/s."]
    if len(runs) > 1:
        lines += ["", "Memory by the number of photos:", "", "| photos | peak memory, MB | photos/s |", "|--:|--:|--:|"]
        lines += [f"| {side.photos} | {side.peak_bytes / _MIB:.0f} | {side.per_s:.2f} |" for side in runs]
    if cost:
        lines += [
            "",
            f"What the job costs beside the photos: {cost['start_s']:.1f} s for start and end,"
            f" {cost['photo_ms']:.1f} ms per photo",
            f"(from {_EMPTY_FEW} and {_EMPTY_MANY} empty files, which fail at once; medians of 3 runs).",
        ]
    return "\n".join(lines) + "\n"
