"""The speed benchmark: bytes in, PNG bytes out, side by side with rembg in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import click
import cv2
import numpy as np

from cutray.commands.progress import download_progress
from cutray.commands.run import run
from cutray.engines.hardware import inspect_hardware
from cutray.errors import EngineError, InputError
from cutray.imaging.decode import decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.remover import BackgroundRemover
from pipelines.bench_edges import edges
from pipelines.demo import sample_photos
from pipelines.load import load

_SIZES_MP = (0.5, 6.0, 12.0)
_STAGES = ("decode", "segment", "matte", "render", "encode")
# VmHWM, not ru_maxrss: the latter is inherited from the parent across exec.
_RUN_AND_TELL_PEAK = """
import re, sys
from cutray.cli import cli
from cutray.commands.run import run
code = run(cli, sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
sys.exit(code)
"""
_PEER_VERSIONS = """
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in ("rembg", "onnxruntime", "numpy", "pillow")), sep=", ")
"""
_PEER = Path(__file__).with_name("rembg_worker.py")


@dataclass(slots=True)
class Row:
    """Seconds of every run at one size, and of each of our stages in milliseconds."""

    size_mp: float
    ours_s: list[float] = field(default_factory=list)
    theirs_s: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in _STAGES})


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photos; scikit-image's samples by default.")
@click.option("-m", "--model", default="u2net", show_default=True, help="Model that both sides run.")
@click.option("--precision", default="auto", show_default=True, help="Number format of our network.")
@click.option(
    "-r", "--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Runs per photo and size."
)
@click.option(
    "--rembg-python", type=click.Path(path_type=Path), help="Interpreter that has rembg; without it only we run."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the tables to this file (Markdown).")
def bench(
    context: click.Context,
    images: Path | None,
    model: str,
    precision: str,
    rounds: int,
    rembg_python: Path | None,
    output: Path | None,
) -> None:
    """Measure speed, side by side with rembg.

    Both sides keep their model loaded and take turns, photo by photo, so that a noisy machine is noisy for both.

    \b
    cutray bench                                      only Cutray
    cutray bench --rembg-python .venv-rembg/bin/python
    cutray bench serve photo.jpg                      load on a running endpoint
    cutray bench edges                                hair, glass, metal and lace with exact alpha
    """
    if context.invoked_subcommand:
        return
    with download_progress() as progress:
        remover = BackgroundRemover(model, precision=precision, progress=progress)
    with tempfile.TemporaryDirectory() as folder:
        photos = {size: _photos(images, size, Path(folder)) for size in _SIZES_MP}
        peer = _Peer(rembg_python, model, remover.segmenter.weights.path) if rembg_python else None
        rows = [_measure(remover, peer, size, photos[size], rounds) for size in _SIZES_MP]
        cold = _cold(model, photos[0.5][0], photos[12.0][0], Path(folder))
        if peer:
            peer.close()
    text = _page(remover, rows, cold, rembg_python, rounds, len(photos[0.5]))
    click.echo(text)
    if output is not None:
        write_atomically(output, text.encode(), overwrite=True)
    facts = {f"{row.size_mp} MP": {"ours_s": _median(row.ours_s), "theirs_s": _median(row.theirs_s)} for row in rows}
    click.echo(json.dumps({"job": "bench", **facts}))


bench.add_command(load)
bench.add_command(edges)


class _Peer:
    """rembg in a process of its own that lives through the whole benchmark."""

    def __init__(self, python: Path, model: str, weights: Path) -> None:
        if weights.name != f"{model}.onnx":
            raise InputError(got=f"weights {weights}", allowed=f"a file called {model}.onnx", fix="use u2net or u2netp")
        environment = {**os.environ, "U2NET_HOME": str(weights.parent)}
        self._process = subprocess.Popen(
            [str(python), str(_PEER), model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._expect("ready")

    def seconds(self, path: Path) -> float:
        """Have one photo cut out and return how long it took."""
        assert self._process.stdin is not None  # for the type checker
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return float(self._expect(""))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _expect(self, start: str) -> str:
        """Read one line, or say why there is none."""
        assert self._process.stdout is not None  # for the type checker
        line = self._process.stdout.readline().strip()
        if not line or not line.startswith(start):
            message = self._process.communicate()[1].strip().splitlines()
            raise EngineError(
                got=f"rembg failed: {message[-1] if message else line}", fix="run `make bench` to set it up"
            )
        return line


def _photos(images: Path | None, size_mp: float, folder: Path) -> list[Path]:
    """Write the photos as JPEG at one size."""
    if images is None:
        sources = [picture for picture in sample_photos().values() if picture.ndim == 3]
    else:
        sources = [decode_image(path.read_bytes()).pixels for path in sorted(images.iterdir()) if path.is_file()]
    paths = []
    for index, picture in enumerate(sources):
        scale = (size_mp * 1e6 / (picture.shape[0] * picture.shape[1])) ** 0.5
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        path = folder / f"{index}_{size_mp}.jpg"
        path.write_bytes(encode_image(np.asarray(cv2.resize(picture, size, interpolation=way)), "JPEG", quality=92))
        paths.append(path)
    return paths


def _measure(
    remover: BackgroundRemover, peer: _Peer | None, size_mp: float, photos: Sequence[Path], rounds: int
) -> Row:
    """Take turns on every photo; the first round warms up and is not counted."""
    row = Row(size_mp)
    for round_number in range(rounds + 1):
        for path in photos:
            data = path.read_bytes()
            started = time.perf_counter()
            removal = remover.remove_background(data)
            ours = time.perf_counter() - started
            theirs = peer.seconds(path) if peer else None
            if round_number == 0:
                continue
            row.ours_s.append(ours)
            if theirs is not None:
                row.theirs_s.append(theirs)
            for stage in _STAGES:
                row.stages_ms[stage].append(removal.report.timings_ms[stage])
    return row


def _cold(model: str, small: Path, large: Path, folder: Path) -> dict[str, float]:
    """Measure what a new process costs: seconds, and megabytes at the peak of one 12 MP cutout."""
    python = [sys.executable, "-m", "cutray.cli"]

    def seconds(command: list[str]) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    remove = ["remove", str(large), "-o", str(folder / "peak.png"), "--overwrite", "-m", model, "--allow-empty"]
    facts = {
        "`import cutray`, s": seconds([sys.executable, "-c", "import cutray"])
        - seconds([sys.executable, "-c", "pass"]),
        "`cutray --help`, s": seconds([*python, "--help"]),
        "first cutout of a new process (0.5 MP), s": seconds(
            [*python, "remove", str(small), "-o", str(folder / "cold.png"), "--overwrite", "-m", model, "--allow-empty"]
        ),
    }
    if Path("/proc/self/status").exists():
        shown = subprocess.run(
            [sys.executable, "-c", _RUN_AND_TELL_PEAK, *remove], check=True, capture_output=True, text=True
        )
        facts["peak memory of one 12 MP cutout, MB"] = int(shown.stdout.split()[-1]) / 1024
    return facts


def _page(
    remover: BackgroundRemover,
    rows: Sequence[Row],
    cold: dict[str, float],
    rembg_python: Path | None,
    rounds: int,
    n: int,
) -> str:
    """Write the tables with all that is needed to repeat them."""
    hardware = inspect_hardware()
    choice = remover.segmenter.choice
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("openvino", "numpy", "pillow", "opencv-python-headless", "isal")
    )
    lines = [
        "# Speed",
        "",
        "Written by `make bench`. Bytes in, PNG bytes out, model loaded and kept, clean edges on; both sides take",
        f"turns photo by photo ({n} photos × {rounds} rounds per size). Medians; the ratio is the median of all pairs.",
        "",
        f"Machine: {hardware.cpu_name}, {hardware.cores} cores. Model: {remover.segmenter.weights.spec.name}.",
        f"Cutray: {choice.engine} in {choice.precision} ({choice.reason}); {packages}.",
    ]
    if rembg_python:
        lines.append(f"rembg: {_peer_versions(rembg_python)}.")
    lines += ["", "| photo | rembg, s | Cutray, s | times as fast |", "|---|--:|--:|--:|"]
    for row in rows:
        ratio = _median([theirs / ours for ours, theirs in zip(row.ours_s, row.theirs_s, strict=False)])
        theirs = f"{_median(row.theirs_s):.3f}" if row.theirs_s else "–"
        lines.append(
            f"| {row.size_mp:g} MP | {theirs} | {_median(row.ours_s):.3f} | {f'{ratio:.1f}' if row.theirs_s else '–'} |"
        )
    lines += [
        "",
        "Where our time goes, in milliseconds:",
        "",
        "| photo | " + " | ".join(_STAGES) + " |",
        "|---" + "|--:" * 5 + "|",
    ]
    lines += [
        f"| {row.size_mp:g} MP | " + " | ".join(f"{_median(row.stages_ms[stage]):.0f}" for stage in _STAGES) + " |"
        for row in rows
    ]
    lines += [
        "",
        "A new process, from a cold shell with the weights in the cache:",
        "",
        "| what | measured |",
        "|---|--:|",
    ]
    lines += [
        f"| {name} | {value:.2f} |" if value < 10 else f"| {name} | {value:.0f} |" for name, value in cold.items()
    ]
    return "\n".join(lines) + "\n"


def _peer_versions(python: Path) -> str:
    """Ask the other interpreter for its versions."""
    return subprocess.run(
        [str(python), "-c", _PEER_VERSIONS], check=True, capture_output=True, text=True
    ).stdout.strip()


def _median(values: Sequence[float]) -> float:
    """Return the median, or NaN of nothing."""
    return statistics.median(values) if values else float("nan")


if __name__ == "__main__":
    sys.exit(run(bench))
