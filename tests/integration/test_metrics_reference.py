"""Agreement of the saliency scores with the toolkit that the field's papers use."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cutray.evaluation.metrics import ImageScores, score, summarise
from tests.alphas import disc, perturb, quantise, scene, soft_disc

toolkit = pytest.importorskip("py_sod_metrics", reason="pysodmetrics is not installed")

TOLERANCE = 1e-3
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def pairs() -> list[Pair]:
    """Make predictions from good to useless for truths of many shapes."""
    made = [(perturb(scene(seed), seed, 1.0 + seed % 7), scene(seed)) for seed in range(20)]
    made += [(perturb(scene(seed), seed), scene(seed + 1)) for seed in range(5)]
    made += [(quantise(soft_disc()), disc()), (disc(), disc()), (quantise(1 - disc()), disc())]
    return made


@pytest.fixture(scope="module")
def ours() -> list[ImageScores]:
    """Score all pairs."""
    return [score(alpha, truth) for alpha, truth in pairs()]


def run(measure: Any) -> dict[str, Any]:
    """Feed all pairs to one of the toolkit's measures, without its stretch to the full range."""
    for alpha, truth in pairs():
        levels = np.rint(alpha.astype(np.float64) * 255) / 255
        measure.step(levels, truth > 0.5, normalize=False)
    results: dict[str, Any] = measure.get_results()
    return results


def test_f_measure_agrees(ours: list[ImageScores]) -> None:
    """Maximum, mean and adaptive F and every point of every curve agree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measure = toolkit.Fmeasure()
    result = run(measure)["fm"]
    summary = summarise(ours)

    assert summary["f_max"] == pytest.approx(result["curve"].max(), abs=TOLERANCE)
    assert summary["f_mean"] == pytest.approx(result["curve"].mean(), abs=TOLERANCE)
    assert summary["f_adaptive"] == pytest.approx(result["adp"], abs=TOLERANCE)
    curves = np.array([entry.f_curve for entry in ours])
    assert np.array(measure.changeable_fms)[:, ::-1] == pytest.approx(curves, abs=TOLERANCE)


def test_e_measure_agrees(ours: list[ImageScores]) -> None:
    """Maximum, mean and adaptive E and every point of every curve agree."""
    measure = toolkit.Emeasure()
    result = run(measure)["em"]
    summary = summarise(ours)

    assert summary["e_max"] == pytest.approx(result["curve"].max(), abs=TOLERANCE)
    assert summary["e_mean"] == pytest.approx(result["curve"].mean(), abs=TOLERANCE)
    assert summary["e_adaptive"] == pytest.approx(result["adp"], abs=TOLERANCE)
    curves = np.array([entry.e_curve for entry in ours])
    assert np.array(measure.changeable_ems)[:, ::-1] == pytest.approx(curves, abs=TOLERANCE)


def test_structure_measure_agrees(ours: list[ImageScores]) -> None:
    """The S-measure of every picture agrees."""
    measure = toolkit.Smeasure()
    run(measure)

    assert [entry.s_measure for entry in ours] == pytest.approx(measure.sms, abs=TOLERANCE)


def test_weighted_f_agrees(ours: list[ImageScores]) -> None:
    """The weighted F of every picture agrees, although equally near subject pixels may be chosen differently."""
    measure = toolkit.WeightedFmeasure()
    run(measure)

    assert [entry.weighted_f for entry in ours] == pytest.approx(measure.weighted_fms, abs=TOLERANCE)


def test_mae_agrees(ours: list[ImageScores]) -> None:
    """The mean absolute error of every picture agrees."""
    measure = toolkit.MAE()
    run(measure)

    assert [entry.mae for entry in ours] == pytest.approx(measure.maes, abs=TOLERANCE)
