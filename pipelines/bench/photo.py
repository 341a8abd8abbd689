"""How long one photo takes, side by side with rembg: bytes in, PNG bytes out, model loaded."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from cutray.config import EFFORTS
from cutray.engines.hardware import inspect_hardware
from cutray.engines.select import PACKAGES
from cutray.models.weights import resolve
from cutray.remover import BackgroundRemover
from pipelines.bench.pages import describe_machine
from pipelines.bench.photos import photos_of_size
from pipelines.bench.worker_process import WorkerProcess, start_rembg

_SIZES_MP = (0.5, 6.0, 12.0)
# rembg's alpha matting takes so long that it runs once per photo, at this size.
_MATTED_MP = 6.0
_STAGES = ("decode", "segment", "matte", "render", "encode")
# VmHWM, not ru_maxrss: the latter is inherited from the parent across exec.
_RUN_AND_TELL_PEAK = """
import re, sys
from cutray.cli import cli
from cutray.console.run import run
code = run(cli, sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
sys.exit(code)
"""
_PEER_VERSIONS = """
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in ("rembg", "onnxruntime", "numpy", "pillow")), sep=", ")
"""


@dataclass(slots=True)
class SizeTimings:
    """Seconds of every run at one size, ours by quality, and of each of our stages in milliseconds."""

    size_mp: float
    ours_s: dict[str, list[float]] = field(default_factory=lambda: {quality: [] for quality in EFFORTS})
    theirs_s: list[float] = field(default_factory=list)
    matted_s: list[float] = field(default_factory=list)
    stages_ms: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: {(quality, stage): [] for quality in EFFORTS for stage in _STAGES}
    )


@dataclass(frozen=True, slots=True)
class Peer:
    """rembg: the interpreter that has it, and its name of the model that it runs."""

    python: Path
    model: str


def measure_speed(
    removers: Mapping[str, BackgroundRemover], images: Path | None, peer: Peer | None, rounds: int, folder: Path
) -> tuple[str, dict[str, dict[str, float]]]:
    """Measure every size.

    Args:
        removers: Our side by quality, loaded.
        images: Folder of photos, or None for the samples.
        peer: The other side, if it takes part.
        rounds: Runs per photo and size.
        folder: Where photos may be written.

    Returns:
        The page (Markdown) and the medians in seconds by size.

    Raises:
        EngineError: rembg fails.
        InputError: The weights have a name that rembg does not know.
    """
    photos = {size: photos_of_size(images, size, folder) for size in _SIZES_MP}
    rembg = start_rembg(peer.python, peer.model, resolve(peer.model).path) if peer else None
    rows = [_measure(removers, rembg, size, photos[size], rounds) for size in _SIZES_MP]
    cold = _cold(removers["balanced"].settings.model, photos[0.5][0], photos[12.0][0], folder)
    if rembg:
        rembg.close()
    facts = {
        f"{row.size_mp} MP": {name: _median(times) for name, times in (*row.ours_s.items(), ("rembg", row.theirs_s))}
        for row in rows
    }
    return _page(removers, rows, cold, peer, rounds, len(photos[0.5])), facts


def _measure(
    removers: Mapping[str, BackgroundRemover],
    peer: WorkerProcess | None,
    size_mp: float,
    photos: Sequence[Path],
    rounds: int,
) -> SizeTimings:
    """Take turns on every photo; the first round warms up and is not counted."""
    row = SizeTimings(size_mp)
    for round_number in range(rounds + 1):
        for path in photos:
            data = path.read_bytes()
            theirs = peer.cut_out(path).seconds if peer else None
            for quality in EFFORTS:
                started = time.perf_counter()
                removal = removers[quality].remove_background(data)
                ours = time.perf_counter() - started
                if round_number == 0:
                    continue
                row.ours_s[quality].append(ours)
                for stage in _STAGES:
                    row.stages_ms[quality, stage].append(removal.report.timings_ms[stage])
            if theirs is not None and round_number:
                row.theirs_s.append(theirs)
    if peer and size_mp == _MATTED_MP:
        peer.cut_out(photos[0], matting=True)  # compiles what it needs
        row.matted_s = [peer.cut_out(path, matting=True).seconds for path in photos]
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
    removers: Mapping[str, BackgroundRemover],
    rows: Sequence[SizeTimings],
    cold: dict[str, float],
    peer: Peer | None,
    rounds: int,
    n: int,
) -> str:
    """Write the tables with all that is needed to repeat them."""
    hardware = inspect_hardware()
    choice = removers["balanced"].segmenter.choice
    models = ", ".join(f"{name}: {one.segmenter.weights.spec.name}" for name, one in removers.items())
    engines = [PACKAGES[name] for name in choice.engine.split("+") if name in PACKAGES]
    packages = ", ".join(
        f"{name} {version(name)}" for name in (*engines, "numpy", "pillow", "opencv-python-headless", "isal")
    )
    lines = [
        "# Speed",
        "",
        "Written by `make bench`. Bytes in, PNG bytes out, model loaded and kept, clean edges on; freed memory",
        "kept as in `cutray remove` and the endpoint (`keep_freed_memory`). Both sides take turns photo by photo",
        f"({n} photos × {rounds} rounds per size). Medians; the ratio is the median of all pairs.",
        "",
        f"{describe_machine(hardware)} Models of Cutray: {models}.",
        f"Cutray: {choice.engine} in {choice.precision} ({choice.reason}); {packages}.",
    ]
    if peer:
        lines.append(f"rembg: {peer.model}; {peer_versions(peer.python)}.")
    names = [name if name != "balanced" else "balanced (default)" for name in EFFORTS]
    lines += ["", "Seconds, and in brackets how many times as fast as rembg:", ""]
    lines += ["| photo | rembg | " + " | ".join(names) + " |", "|---" + "|--:" * (1 + len(names)) + "|"]
    lines += [_speed_row(row) for row in rows]
    for row in rows:
        if row.matted_s:
            matted = _median(row.matted_s)
            ratios = ", ".join(f"{name} is {matted / _median(times):.0f} times" for name, times in row.ours_s.items())
            lines += ["", f"rembg with alpha matting takes {matted:.1f} s at {row.size_mp:g} MP: {ratios} as fast."]
    lines += ["", "Where our time goes, in milliseconds:", ""]
    lines += ["| photo | quality | " + " | ".join(_STAGES) + " |", "|---|---" + "|--:" * 5 + "|"]
    for row in rows:
        for quality in EFFORTS:
            cells = (f"{_median(row.stages_ms[quality, stage]):.0f}" for stage in _STAGES)
            lines.append(f"| {row.size_mp:g} MP | {quality} | {' | '.join(cells)} |")
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


def _speed_row(row: SizeTimings) -> str:
    """Write one size's medians, and the medians of the ratios of all pairs."""
    cells = [f"{_median(row.theirs_s):.3f}" if row.theirs_s else "–"]
    for times in row.ours_s.values():
        ratio = _median([theirs / ours for ours, theirs in zip(times, row.theirs_s, strict=False)])
        cells.append(f"{_median(times):.3f}" + (f" ({ratio:.1f})" if row.theirs_s else ""))
    return f"| {row.size_mp:g} MP | {' | '.join(cells)} |"


def peer_versions(python: Path) -> str:
    """Ask an interpreter that has rembg for its versions."""
    return subprocess.run(
        [str(python), "-c", _PEER_VERSIONS], check=True, capture_output=True, text=True
    ).stdout.strip()


def _median(values: Sequence[float]) -> float:
    """Return the median, or NaN of nothing."""
    return statistics.median(values) if values else float("nan")
