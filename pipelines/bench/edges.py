"""The edge benchmark: how many hair, glass, metal and lace scenes with exact alpha are cut out right."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import click
import cv2
import numpy as np

from cutray.config import RemoverSettings, parse_settings
from cutray.console.progress import download_progress, photo_progress
from cutray.console.run import run
from cutray.data.synthetic import CASES
from cutray.data.synthetic.context import Family
from cutray.engines.hardware import inspect_hardware
from cutray.evaluation.edge_cases import score_edges
from cutray.imaging.contact_sheet import draw_contact_sheet
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.imaging.resize import resize_area
from cutray.matting.refine import WEIGHTS, Refiner, Region
from cutray.preflight import check_new_file
from cutray.remover import BackgroundRemover, Removal
from pipelines.bench.edge_page import CONTROL, EMPTY, Result, share_left_empty, success_rate, write_page
from pipelines.bench.edge_trials import Trial, drawn_trials, pasted_trials
from pipelines.bench.pages import describe_machine, overwrite_option
from pipelines.bench.row_text import read_row

_DEFAULT_ROWS = (
    "classic recipe: compat=true",
    "network alone: solid_interior=false sure_background=0 sure_foreground=1",
    "defaults:",
)
_SANITY = ("truth", "truth at 320 px", "truth of another scene")
_NETWORK_SIDE_PX = 320
# Where a refiner's drawing takes the place of the alpha: everywhere; in all of a photo in which the detector finds a
# hard case; where the refiner itself thinks it better; in all of a scene that is known to be hard.
_Route = Literal["always", "heuristic", "learned", "oracle"]
_SHOWN = 16


@click.command()
@click.option("-n", "--n", "amount", default=40, show_default=True, type=click.IntRange(min=1), help="Scenes per case.")
@click.option("--side", "side_px", default=1024, show_default=True, help="Longer side of each scene, in pixels.")
@click.option(
    "--family", type=click.Choice(get_args(Family)), default="test", show_default=True, help="Whose generators draw."
)
@click.option(
    "--case", "cases", multiple=True, type=click.Choice(CASES), help="Draw this case alone; several may be named."
)
@click.option(
    "--row",
    "row_texts",
    multiple=True,
    default=_DEFAULT_ROWS,
    help='A name and settings of the remover, e.g. "soft: solid_interior=false"; several are compared.',
)
@click.option("-m", "--model", help="Model of the rows that name none; without it what `cutray remove` takes.")
@click.option(
    "--refiner",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=WEIGHTS,
    help="Measure an edge refiner on top of the last row, by each way of deciding where; alone, the package's.",
)
@click.option("--alphas", type=click.Path(path_type=Path), help="Folder of real photos with soft alphas, pasted anew.")
@click.option(
    "--backgrounds", default=2, show_default=True, type=click.IntRange(min=1), help="New ones per real photo."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the tables to this file (Markdown).")
@click.option("--pictures", type=click.Path(path_type=Path), help="Write a sheet of the worst results (JPEG).")
@overwrite_option
def edges(
    amount: int,
    side_px: int,
    family: Family,
    cases: tuple[str, ...],
    row_texts: Sequence[str],
    model: str | None,
    refiner: Path | None,
    alphas: Path | None,
    backgrounds: int,
    output: Path | None,
    pictures: Path | None,
    overwrite: bool,
) -> None:
    """Measure hard edges on scenes whose alpha is exact.

    Every run draws the same scenes. The truth itself, the truth as the network could at best see it, and the
    truth of another scene are scored too, so that the scale can be read.

    \b
    cutray bench edges
    cutray bench edges -n 10 --row "defaults:" --row "soft: solid_interior=false"
    cutray bench edges --case reflectivity             rings and chains, and how many holes stay open
    cutray bench edges --refiner
    cutray bench edges --row "defaults:" --refiner refiner.onnx
    cutray bench edges --alphas data/am2k -o docs/benchmarks/edges.md --pictures out/edges.jpg
    """
    for path in filter(None, (output, pictures)):
        check_new_file(path, overwrite=overwrite)
    rows = [_EdgeSetup(text, model) for text in row_texts]
    if refiner is not None:
        base = _EdgeSetup(f"{row_texts[-1]} refine=never edge_cases=true", model)
        rows += [_RefinerSetup(base, refiner, route) for route in get_args(_Route)]
    wanted = tuple(case for case in CASES if case in cases) or CASES
    trials: Iterable[Trial] = drawn_trials(amount, side_px, family, wanted)
    total = amount * len(wanted)
    if alphas is not None:
        pasted = list(pasted_trials(alphas, backgrounds, side_px, family))
        trials, total = (trial for group in (trials, pasted) for trial in group), total + len(pasted)
    results: dict[str, list[Result]] = {name: [] for name in (*(row.name for row in rows), *_SANITY)}
    worst = _Worst(_SHOWN)
    with photo_progress(total, shown=sys.stderr.isatty()) as advance:
        others = _Others()
        for trial in trials:
            coarse = rows[-1].coarse(trial.image)
            for row in rows:
                cutout = row.cut_out(trial)
                alpha = cutout[..., 3].astype(np.float32) / 255
                results[row.name].append(_judge(trial, alpha, coarse))
                if row is rows[-1]:
                    worst.offer(trial, cutout, results[row.name][-1])
            for name, alpha in zip(_SANITY, _stand_ins(trial.truth, others.next(trial.truth)), strict=True):
                results[name].append(_judge(trial, alpha, coarse))
            advance(0)
    text = write_page(results, _head(rows, amount, side_px, family, alphas))
    click.echo(text)
    if output is not None:
        write_atomically(output, text.encode(), overwrite=overwrite)
    if pictures is not None:
        worst.write(pictures, overwrite=overwrite)
    rates = {
        row.name: {case: success_rate(results[row.name], case)[0] for case in wanted if case != EMPTY} for row in rows
    }
    facts: dict[str, object] = {"job": "bench edges", "done_right": rates}
    if EMPTY in wanted:
        facts["left_empty"] = {row.name: share_left_empty(results[row.name]) for row in rows}
    click.echo(json.dumps(facts))


class _EdgeSetup:
    """A named set of settings, and the remover that has them."""

    def __init__(self, text: str, model: str | None) -> None:
        """Read ``NAME: key=value key=value`` and load the remover."""
        self.name, self.given = read_row(text)
        values = self.given if model is None else {"model": model, **self.given}
        settings = parse_settings(RemoverSettings, values).model_dump(exclude_unset=True)
        with download_progress() as progress:
            self._remover = BackgroundRemover(progress=progress, **settings)
        self._last: tuple[Trial, Removal] | None = None

    def remove(self, trial: Trial) -> Removal:
        """Cut a trial out, once for all who ask for it in turn."""
        if self._last is None or self._last[0] is not trial:
            self._last = trial, self._remover.remove_background(trial.image)
        return self._last[1]

    @property
    def engine(self) -> str:
        """Engine and precision."""
        segmenter = self._remover.segmenter
        return f"{segmenter.weights.spec.name} on {segmenter.engine.name} in {segmenter.engine.precision}"

    def cut_out(self, trial: Trial) -> np.ndarray:
        """Return the cutout, (H, W, 4) uint8."""
        return np.asarray(self.remove(trial).cutout)

    def coarse(self, image: np.ndarray) -> np.ndarray:
        """Return the network's answer, stretched to the picture's size and nothing else."""
        (probs,) = self._remover.segmenter.segment([image])
        return cv2.resize(probs, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


class _RefinerSetup(_EdgeSetup):
    """A row whose alpha a refiner corrects, by one way of deciding where."""

    def __init__(self, base: _EdgeSetup, refiner: Path, route: _Route) -> None:
        """Load the refiner; the remover is that of a row without one, which names what it detects."""
        self.name, self.given = f"refined: {route}", {**base.given, "refiner": refiner.name}
        self._base, self._remover = base, base._remover
        self._refiner, self._route = Refiner(refiner), route

    def cut_out(self, trial: Trial) -> np.ndarray:
        """Return the photo with the alpha that the refiner corrects; an empty scene stays empty."""
        removal = self._base.remove(trial)
        alpha = removal.cutout[..., 3]
        hard = {"heuristic": bool(removal.report.edge_cases), "oracle": trial.case != CONTROL}.get(self._route, True)
        if alpha.any() and hard:
            where: Region = "everywhere" if self._route == "learned" else "unconditional"
            corrected = self._refiner.correct(alpha.astype(np.float32) / 255, trial.image, where)
            alpha = np.rint(corrected * 255).astype(np.uint8)
        return np.dstack([trial.image, alpha])


def _judge(trial: Trial, alpha: np.ndarray, coarse: np.ndarray) -> Result:
    """Score one alpha; for an empty scene count what was left."""
    if trial.case == EMPTY:
        return Result(trial.name, trial.case, trial.level, None, float((alpha > 0.5).mean()))
    return Result(trial.name, trial.case, trial.level, score_edges(alpha, trial.truth, coarse))


def _stand_ins(truth: np.ndarray, other: np.ndarray) -> Sequence[np.ndarray]:
    """Return what the sanity rows show: the truth, what is left of it at the network's size, and a wrong one."""
    height, width = truth.shape
    small = resize_area(truth, _NETWORK_SIDE_PX, _NETWORK_SIDE_PX)
    stretched = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return truth, np.clip(stretched, 0, 1), np.clip(resize_area(other, height, width), 0, 1)


class _Others:
    """Remembers the last truths, to hand out one that belongs to another scene."""

    def __init__(self) -> None:
        """Begin with none."""
        self._last: list[np.ndarray] = []

    def next(self, truth: np.ndarray) -> np.ndarray:
        """Return the latest truth that differs from this one, or an empty one, and remember this one."""
        different = [known for known in self._last if not np.array_equal(known, truth)]
        self._last = [*different, truth][-2:]
        return different[-1] if different else np.zeros_like(truth)


class _Worst:
    """Keeps the trials that a row did worst, by the error in the unknown band."""

    def __init__(self, amount: int) -> None:
        """Keep that many."""
        self._amount = amount
        self._kept: list[tuple[float, Trial, np.ndarray]] = []

    def offer(self, trial: Trial, cutout: np.ndarray, result: Result) -> None:
        """Consider a result."""
        error = result.left * 1000 if result.scores is None else result.scores.mse_band
        self._kept.append((error, trial, cutout))
        self._kept.sort(key=lambda entry: -entry[0])
        del self._kept[self._amount :]

    def write(self, path: Path, *, overwrite: bool) -> None:
        """Write a sheet with the truth above each result."""
        rows = []
        for error, trial, cutout in self._kept:
            known = np.dstack([trial.image, np.rint(trial.truth * 255).astype(np.uint8)])
            rows += [(f"{trial.name}: truth", trial.image, known)]
            rows += [(f"{trial.name}: result, error {error:.0f}", trial.image, cutout)]
        sheet = np.asarray(draw_contact_sheet(rows, cell_px=280))
        write_atomically(path, encode_image(sheet, "JPEG", quality=85), overwrite=overwrite)


def _head(rows: Sequence[_EdgeSetup], amount: int, side_px: int, family: str, alphas: Path | None) -> list[str]:
    """Say what was measured, on what, and how to repeat it."""
    hardware = inspect_hardware()
    packages = ", ".join(f"{name} {version(name)}" for name in ("openvino", "numpy", "opencv-python-headless"))
    lines = [
        "# Hard edges",
        "",
        "Written by `cutray bench edges`. Scenes are drawn, so their alpha is exact; the seeds are frozen. They are no",
        "photos: the figures compare settings, they do not predict the share of real photos that come out right.",
        "",
        "A scene is done right when the mean squared error in the unknown band is at most .02, the outline is found",
        "within 3 px by an F-measure of at least .75, and the mean absolute error is at most 1 % above that of the",
        "network's own map stretched to size. Intervals are 95 %, from a bootstrap over scenes.",
        "",
        f"{amount} scenes per case, {side_px} px, generators of the `{family}` family"
        + (f", and real subjects of `{alphas.name}` on new backgrounds." if alphas else "."),
        f"{describe_machine(hardware)} {packages}.",
        "",
    ]
    for row in rows:
        typed = {key: str(value).lower() if isinstance(value, bool) else value for key, value in row.given.items()}
        settings = ", ".join(f"{key}={value}" for key, value in typed.items())
        lines.append(f"- {row.name}: {settings or 'nothing set'}; {row.engine}.")
    return lines


if __name__ == "__main__":
    sys.exit(run(edges))
