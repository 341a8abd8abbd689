"""The hint benchmark: how far a box and a few points help where the network has chosen wrongly, and what they cost."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import click
import cv2
import numpy as np

from cutray.console.progress import download_progress, photo_progress
from cutray.edit import Edit
from cutray.engines.hardware import inspect_hardware
from cutray.errors import DatasetError
from cutray.evaluation.datasets import Sample, find_samples, read_truth
from cutray.evaluation.uncertainty import bootstrap_interval
from cutray.hints import Hints
from cutray.imaging.decode import decode_image
from cutray.imaging.subject_box import mask_box
from cutray.remover import BackgroundRemover, Removal
from cutray.tta import predict
from pipelines.bench.pages import check_page, describe_machine, page_options, write_page

_POINTS = 3
_STROKE_MP = (1.0, 6.0, 12.0)
_ROUNDS = 7
# An IoU that is good enough to be left alone; differences below the second value are no change.
_GOOD, _SAME = 0.85, 0.01


@dataclass(slots=True)
class Row:
    """What became of one photo.

    Attributes:
        name: Its file's name.
        ious: Overlap with the truth without hints, with the box, and after each point.
        seconds: Time of each of these steps.
    """

    name: str
    ious: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def half(self) -> str:
        """A for the photos that settings may be chosen on, B for the others; by the name alone."""
        return "AB"[hashlib.sha256(self.name.encode()).digest()[-1] % 2]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of photos with truth masks.")
@click.option("-m", "--model", default="u2net", show_default=True, help="Model that runs.")
@click.option("--below", default=0.6, show_default=True, help="Only photos whose mask without hints has a lower IoU.")
@click.option("--others", default=24, show_default=True, help="As many of the other photos, to see that none suffers.")
@click.option("--strokes/--no-strokes", default=True, show_default=True, help="Time strokes at 1, 6 and 12 megapixels.")
@page_options
def hints(
    data: Path, model: str, below: float, others: int, strokes: bool, output: Path | None, overwrite: bool
) -> None:
    """Measure what a box and points gain, and what a stroke costs.

    The box is that of the truth. Each point is put by a rule: in the middle of the largest wrong region, on its pixel
    that is farthest from the region's border; it is kept or dropped as the truth says.

    \b
    cutray bench hints --data DUTS-TE/
    """
    check_page(output, overwrite=overwrite)
    with download_progress() as progress:
        remover = BackgroundRemover(model, progress=progress)
    samples = find_samples(data)
    wrong, right = _measure(remover, samples, below, others)
    if not wrong:
        raise DatasetError(
            got=f"no photo of {data} has an IoU below {below}", allowed="photos that need hints", fix="raise --below"
        )
    text = _page(wrong, right, len(samples), below)
    if strokes:
        text += _stroke_table(remover, samples[0])
    click.echo(text)
    write_page(output, text, overwrite=overwrite)
    click.echo(json.dumps({"job": "bench hints", "photos": len(wrong), "mean_iou": _means(wrong)}))


def _measure(
    remover: BackgroundRemover, samples: Sequence[Sample], below: float, others: int
) -> tuple[list[Row], list[Row]]:
    """Take the photos that need hints through all steps, and a few of the others."""
    wrong: list[Row] = []
    right: list[Row] = []
    # Those whose names have the smallest hashes: spread over the folder, and the same ones at every run.
    ranked = sorted(samples, key=lambda sample: hashlib.sha256(sample.stem.encode()).digest())
    with photo_progress(len(ranked), shown=True) as advance:
        for sample in ranked:
            row = _steps(remover, sample, below, always=len(right) < others)
            if row is not None:
                (wrong if row.ious[0] < below else right).append(row)
            advance(0)
    return sorted(wrong, key=lambda row: row.name), right


def _steps(remover: BackgroundRemover, sample: Sample, below: float, *, always: bool) -> Row | None:
    """Give a photo its box, then one point after the other; None for one that needs no hints."""
    image = decode_image(sample.image.read_bytes()).pixels
    truth = read_truth(sample, shape=image.shape[:2]) > 0.5
    row = Row(sample.stem)

    def step(work: Callable[[], Removal]) -> tuple[Removal, np.ndarray]:
        started = time.perf_counter()
        result = work()
        row.seconds.append(time.perf_counter() - started)
        mask = np.asarray(result.mask) > 127
        row.ious.append(float((mask & truth).sum() / max(1, (mask | truth).sum())))
        return result, mask

    step(lambda: remover.remove_background(image))
    around = mask_box(truth)
    if around is None or (row.ious[0] >= below and not always):
        return None
    box = ",".join(map(str, around))
    result, mask = step(lambda: remover.remove_background(image, box=box))
    for _ in range(_POINTS):
        point = worst_point(mask, truth)
        marks = {"keep" if truth[point[1], point[0]] else "drop": [point]}
        result, mask = step(lambda last=result, new=marks: last.refine(**new))  # type: ignore[misc]
    return row


def worst_point(mask: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Find the middle of the largest region that is wrong.

    Args:
        mask: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        (x, y) of the pixel of that region that is farthest from its border; the first pixel if nothing is wrong.
    """
    _, labels, parts, _ = cv2.connectedComponentsWithStats((mask != truth).astype(np.uint8))
    if len(parts) < 2:
        return 0, 0
    largest = 1 + int(parts[1:, cv2.CC_STAT_AREA].argmax())
    framed = np.pad((labels == largest).astype(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(column), int(row)


def _means(rows: Sequence[Row]) -> list[float]:
    """Average the overlap after each step."""
    return [round(float(value), 4) for value in np.mean([row.ious for row in rows], axis=0)]


def _page(wrong: Sequence[Row], right: Sequence[Row], total: int, below: float) -> str:
    """Write what was gained as Markdown."""
    steps = ["no hints", "box", *(f"{count + 1} point{'s' if count else ''}" for count in range(_POINTS))]
    head = [f"| {' | '.join(['photo', 'half', *steps])} |", "|---|---|" + "--:|" * len(steps)]
    lines = [
        "# What hints gain, and what they cost\n",
        "`cutray bench hints --data FOLDER`: the box of the truth, then points put by a rule: in the middle of the",
        "largest wrong region. A step's time is that of a whole call, from pixels to the encoded file. Half A may be",
        "used to choose settings; half B shows what they are worth. Brackets: 95 % bootstrap interval of the mean.\n",
        f"{describe_machine(inspect_hardware())}\n",
        f"{len(wrong)} of {total} photos have an IoU below {below} without hints:\n",
        *head,
        *(f"| {row.name} | {row.half} | {' | '.join(f'{iou:.3f}' for iou in row.ious)} |" for row in wrong),
        "",
        *_summary("those photos", wrong, steps),
    ]
    if right:
        lines += [f"{len(right)} of the other photos, to see whether hints harm what was right:\n"]
        lines += _summary("other photos", right, steps)
    return "\n".join(lines)


def _summary(name: str, rows: Sequence[Row], steps: Sequence[str]) -> list[str]:
    """Sum rows up, all and by halves: IoU, how many are good, and how many each step has made worse."""
    lines = [f"| {' | '.join([name, *steps])} |", "|---|" + "--:|" * len(steps)]
    for half in ("A", "B", "AB"):
        of_half = [row for row in rows if row.half in half]
        if not of_half:
            continue
        ious = np.array([row.ious for row in of_half])
        label = f"{len(of_half)} of half {half}" if len(half) == 1 else f"all {len(of_half)}"
        intervals = [bootstrap_interval(column) for column in ious.T]
        cells = [
            f"{mean:.3f} [{low:.2f}, {high:.2f}]" for mean, (low, high) in zip(ious.mean(0), intervals, strict=True)
        ]
        lines.append(f"| {label}: mean IoU | {' | '.join(cells)} |")
        lines.append(f"| {label}: median IoU | {' | '.join(f'{value:.3f}' for value in np.median(ious, axis=0))} |")
    good = (ious >= _GOOD).sum(axis=0)
    before = np.concatenate([ious[:, :1], ious[:, :-1]], axis=1)
    lines.append(f"| IoU of {_GOOD} or more | {' | '.join(map(str, good))} |")
    lines.append(f"| worse than without hints | {' | '.join(map(str, (ious < ious[:, :1] - _SAME).sum(axis=0)))} |")
    lines.append(f"| worse than a step before | {' | '.join(map(str, (ious < before - _SAME).sum(axis=0)))} |")
    spent_s = [median(column) for column in zip(*(row.seconds for row in rows), strict=True)]
    lines.append(f"| median seconds | {' | '.join(f'{spent:.2f}' for spent in spent_s)} |\n")
    return lines


def _stroke_table(remover: BackgroundRemover, sample: Sample) -> str:
    """Time strokes on a photo that is enlarged: from the marks to the new alpha channel."""
    image = decode_image(sample.image.read_bytes()).pixels
    lines = ["| megapixels | first stroke, s | next strokes, s (median) |", "|--:|--:|--:|"]
    for megapixels in _STROKE_MP:
        scale = (megapixels * 1e6 / (image.shape[0] * image.shape[1])) ** 0.5
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        settings = remover.settings
        edit = Edit(large, settings)
        (prediction,) = predict([large], remover.segmenter, settings, settings.batch_size)
        nothing = Hints(large.shape[0], large.shape[1])
        edit.add(nothing, prediction)
        seconds = []
        for count in range(1, _ROUNDS + 1):
            drop = np.zeros(large.shape[:2], np.uint8)
            end = (large.shape[1] * count // (_ROUNDS + 1), large.shape[0] // 3)
            cv2.line(drop, (0, large.shape[0] // 2), end, 1, max(1, large.shape[1] // 60))
            started = time.perf_counter()
            edit.matte(replace(nothing, drop=drop > 0))
            seconds.append(time.perf_counter() - started)
        lines.append(f"| {megapixels:g} | {seconds[0]:.2f} | {median(seconds[1:]):.2f} |")
    return "\n".join(lines) + "\n"
