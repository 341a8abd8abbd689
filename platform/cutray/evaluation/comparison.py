"""Scored models side by side: one number with its interval per metric, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cutray.errors import InputError
from cutray.evaluation.datasets import Sample
from cutray.evaluation.metrics import ImageScores, summarise
from cutray.evaluation.uncertainty import bootstrap_interval


@dataclass(frozen=True, slots=True)
class Case:
    """One scored picture.

    Attributes:
        sample: The photo, its truth and tags.
        scores: What `score` returned.
        prediction: Path of the predicted mask, shown among the worst cases; None leaves it out.
    """

    sample: Sample
    scores: ImageScores
    prediction: Path | None = None


@dataclass(frozen=True, slots=True)
class ModelScores:
    """One model's results on a set.

    Attributes:
        name: The model's name in tables.
        cases: One entry per picture.
    """

    name: str
    cases: Sequence[Case]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is printed.

    Attributes:
        label: Short name in tables.
        digits: Decimal places.
        higher_is_better: False for errors.
    """

    label: str
    digits: int = 4
    higher_is_better: bool = True


METRICS = {
    "f_max": Metric("max F"),
    "f_mean": Metric("mean F"),
    "f_half": Metric("F at .5"),
    "f_adaptive": Metric("adaptive F"),
    "weighted_f": Metric("weighted F"),
    "s_measure": Metric("S-measure"),
    "e_max": Metric("max E"),
    "e_mean": Metric("mean E"),
    "e_adaptive": Metric("adaptive E"),
    "iou": Metric("IoU at .5"),
    "dice": Metric("Dice at .5"),
    "missing": Metric("missing, of the subject", 4, False),
    "extra": Metric("extra, of the subject", 4, False),
    "holes_open": Metric("holes kept open"),
    "boundary_iou": Metric("boundary IoU, 2 %"),
    "boundary_iou_fine": Metric("boundary IoU, .2 %"),
    "boundary_f_1px": Metric("boundary F, 1 px"),
    "boundary_f_2px": Metric("boundary F, 2 px"),
    "boundary_f_3px": Metric("boundary F, 3 px"),
    "boundary_f_5px": Metric("boundary F, 5 px"),
    "mae": Metric("MAE", 4, False),
    "mae_binary": Metric("MAE, binary truth", 4, False),
    "sad": Metric("SAD / 1000", 2, False),
    "mse": Metric("MSE x 1000", 2, False),
    "grad": Metric("Grad / 1000", 3, False),
    "conn": Metric("Conn / 1000", 2, False),
    "sad_band": Metric("SAD / 1000, band", 2, False),
    "mse_band": Metric("MSE x 1000, band", 2, False),
    "grad_band": Metric("Grad / 1000, band", 3, False),
    "conn_band": Metric("Conn / 1000, band", 2, False),
}


def plain_means(models: Sequence[ModelScores]) -> dict[str, dict[str, float | None]]:
    """Return the means by model and metric, for programs: to five digits, None where one is not defined.

    Args:
        models: Models with scores.
    """
    means = {model.name: summarise([case.scores for case in model.cases]) for model in models}
    return {
        name: {key: None if np.isnan(value) else round(value, 5) for key, value in row.items()}
        for name, row in means.items()
    }


def check_comparable(models: Sequence[ModelScores]) -> None:
    """Make sure that every model has scores for the same pictures.

    Args:
        models: What is to be compared.

    Raises:
        InputError: There is no model, a model has no cases or one picture twice, or the pictures differ.
    """
    problems = [] if models else ["no models"]
    for model in models:
        stems = [case.sample.stem for case in model.cases]
        if not stems or len(set(stems)) != len(stems):
            problems.append(f"{model.name} has {len(stems)} cases of {len(set(stems))} pictures")
        different = set(stems) ^ {case.sample.stem for case in models[0].cases}
        if different:
            problems.append(f"{model.name} and {models[0].name} differ in {', '.join(sorted(different))}")
    if problems:
        raise InputError(
            got="; ".join(problems),
            allowed="one score per picture, of the same pictures for every model",
            fix="score the missing pictures; a picture without a result counts as an empty alpha",
        )


def per_picture(cases: Sequence[Case], metric: str) -> NDArray[np.float64]:
    """Return one value per picture whose mean is the set's value.

    The maximum of a mean curve is spread over the pictures at the threshold where the maximum lies.

    Args:
        cases: The scored pictures.
        metric: A key of `METRICS`.

    Returns:
        (N,) float64, in order of the stems; NaN where the metric is not defined.
    """
    ordered = [case.scores for case in sorted(cases, key=lambda case: case.sample.stem)]
    family, _, kind = metric.partition("_")
    if kind in {"max", "mean", "half"}:
        curves = np.array([scores.f_curve if family == "f" else scores.e_curve for scores in ordered])
        if kind == "mean":
            return np.asarray(curves.mean(axis=1), np.float64)
        place = curves.shape[1] // 2 if kind == "half" else int(curves.mean(axis=0).argmax())
        return np.asarray(curves[:, place], np.float64)
    return np.array([getattr(scores, metric) for scores in ordered], np.float64)


def summary_rows(models: Sequence[ModelScores], metrics: Sequence[str]) -> list[list[str]]:
    """Write one row per metric: label, mean with 95 % interval per model, and paired differences to the first.

    Args:
        models: Comparable models.
        metrics: Keys of `METRICS`; those without any value are left out.

    Returns:
        Rows of text, the heading first.
    """
    heading = [
        "metric",
        *(model.name for model in models),
        *(f"{model.name} − {models[0].name}" for model in models[1:]),
    ]
    rows = [heading]
    for name in metrics:
        columns = [per_picture(model.cases, name) for model in models]
        if all(np.isnan(column).all() for column in columns):
            continue
        metric = METRICS[name]
        arrow = "↑" if metric.higher_is_better else "↓"
        cells = [with_interval(column, metric.digits, "") for column in columns]
        cells += [with_interval(column - columns[0], metric.digits, "+") for column in columns[1:]]
        rows.append([f"{metric.label} {arrow}", *cells])
    return rows


def tag_rows(models: Sequence[ModelScores], metrics: Sequence[str]) -> list[list[str]]:
    """Write one row per tag and model, with the number of pictures and the means.

    Args:
        models: Comparable models.
        metrics: Keys of `METRICS`.

    Returns:
        Rows of text, the heading first; only the heading when nothing is tagged.
    """
    rows = [["tag", "model", "n", *(METRICS[name].label for name in metrics)]]
    for tag in sorted({tag for case in models[0].cases for tag in case.sample.tags}):
        for model in models:
            means = summarise([case.scores for case in model.cases if tag in case.sample.tags])
            values = [f"{means[name]:.{METRICS[name].digits}f}" for name in metrics]
            rows.append([tag, model.name, f"{means['n']:.0f}", *values])
    return rows


def with_interval(values: NDArray[np.float64], digits: int, sign: str) -> str:
    """Write a mean and its 95 % interval.

    Args:
        values: One per picture; NaN where it is not defined.
        digits: Decimal places.
        sign: ``+`` for differences, which show it always; else empty.
    """
    known = values[~np.isnan(values)]
    if known.size == 0:
        return "not defined"
    low, high = bootstrap_interval(known)
    return f"{known.mean():{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
