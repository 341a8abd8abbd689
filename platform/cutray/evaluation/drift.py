"""Whether photos are like those that a network was trained on: histograms of what they are like, and how they differ.

A histogram has the buckets of one of Prometheus, so that counts of an endpoint and of a folder can be compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.errors import InputError
from cutray.evaluation.photo_features import PhotoFeatures
from cutray.imaging.files import write_atomically

_TWENTIETHS = tuple(round(0.05 * step, 2) for step in range(1, 20))
# A share is a histogram with one bound between 0 (no) and 1 (yes).
_SHARE = (0.5,)
# Upper bounds of the buckets of each feature; one more bucket is above the last.
BOUNDS: Mapping[str, tuple[float, ...]] = {
    "brightness": _TWENTIETHS,
    "sharpness": tuple(float(2**power) for power in range(1, 15)),
    "megapixels": (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0, 8.0, 12.5, 16.0, 24.0, 36.0, 50.0),
    "confidence": _TWENTIETHS,
    "area": _TWENTIETHS,
    "no_subject": _SHARE,
    "fine_detail": _SHARE,
    "transparency": _SHARE,
    "reflectivity": _SHARE,
    "texture": _SHARE,
}
EDGE_CASES = ("fine_detail", "transparency", "reflectivity", "texture")
# Fewer photos on either side say nothing; a difference by chance of this probability over all features is put up with.
FEWEST, SIGNIFICANCE = 100, 0.01
# Sizes of the population stability index that the field calls a moderate and a major shift.
MODERATE_PSI, MAJOR_PSI = 0.1, 0.25
_FORMAT = 1


@dataclass(slots=True)
class Fingerprint:
    """Histograms of photos.

    Attributes:
        counts: Of each feature, photos per bucket; features of which nothing is known are left out.
        made_from: What the photos were, for people.
    """

    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    made_from: str = ""

    def add(self, feature: str, value: float) -> None:
        """Count one photo; a value that is not finite is left out."""
        if math.isfinite(value):
            bounds = BOUNDS[feature]
            counts = self.counts.setdefault(feature, np.zeros(len(bounds) + 1, np.int64))
            counts[int(np.searchsorted(bounds, value, side="left"))] += 1

    def add_all(self, values: Mapping[str, float]) -> None:
        """Count one photo in several histograms."""
        for feature, value in values.items():
            self.add(feature, value)

    def photos(self) -> int:
        """Return how many photos the largest histogram holds."""
        return max((int(counts.sum()) for counts in self.counts.values()), default=0)

    def as_json(self) -> str:
        """Write it so that ``read_fingerprint`` reads it."""
        histograms = {
            name: {"le": list(BOUNDS[name]), "counts": [int(count) for count in counts]}
            for name, counts in self.counts.items()
        }
        whole = {"format": _FORMAT, "made_from": self.made_from, "photos": self.photos(), "histograms": histograms}
        return json.dumps(whole, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Difference:
    """How photos of today differ from the reference in one feature.

    Attributes:
        feature: Its name.
        reference: Median of the reference, or the share where the feature is one.
        live: The same of the photos of today.
        psi: Population stability index.
        statistic: Kolmogorov–Smirnov's D, or the difference of the shares.
        p_value: Probability of a difference like this by chance alone.
        verdict: ``few`` photos, ``same``, ``shifted`` or ``drifted``.
    """

    feature: str
    reference: float
    live: float
    psi: float
    statistic: float
    p_value: float
    verdict: str


def features_of(
    photo: PhotoFeatures | None, *, found: bool, confidence: float, area: float, edge_cases: Iterable[str] | None = None
) -> dict[str, float]:
    """Collect what is counted of one photo.

    Args:
        photo: From ``measure_photo``, or None where it was not measured.
        found: Whether it has a subject; without one, confidence and area mean something else and are not counted.
        confidence: Of its mask, in [0, 1].
        area: Share of the photo that the subject covers, in [0, 1].
        edge_cases: What makes its edges hard, or None where nobody looked.
    """
    values = {"no_subject": float(not found)}
    if photo is not None:
        values |= {"brightness": photo.brightness, "sharpness": photo.sharpness, "megapixels": photo.megapixels}
    if found:
        values |= {"confidence": confidence, "area": area}
    if edge_cases is not None:
        present = set(edge_cases)
        values |= {case: float(case in present) for case in EDGE_CASES}
    return values


def fingerprint_path(weights: Path) -> Path:
    """Return where the fingerprint of a model's training data is: beside its weights."""
    return weights.with_name(f"{weights.stem}.fingerprint.json")


def copy_fingerprint(weights: Path, target: Path) -> None:
    """Put the fingerprint of one weights file beside another one, if there is one.

    Args:
        weights: Where it may be.
        target: The weights file that is made of it.

    Raises:
        OutputError: It cannot be written.
    """
    source, copy = fingerprint_path(weights), fingerprint_path(target)
    if source.is_file() and source.resolve() != copy.resolve():
        write_atomically(copy, source.read_bytes(), overwrite=True)


def read_fingerprint(path: Path) -> Fingerprint:
    """Read a fingerprint from its file.

    Raises:
        InputError: It cannot be read, or has other buckets than those that are counted in.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(got=f"{str(path)!r} cannot be read: {error}", fix="correct the path") from error
    return parse_fingerprint(text, str(path))


def parse_fingerprint(text: str, name: str = "the fingerprint") -> Fingerprint:
    """Read a fingerprint that ``Fingerprint.as_json`` wrote.

    Args:
        text: The JSON.
        name: What it is called in errors.

    Raises:
        InputError: It is none, or has other buckets than those that are counted in.
    """
    try:
        whole: Any = json.loads(text)
        histograms = {key: (tuple(one["le"]), list(one["counts"])) for key, one in whole["histograms"].items()}
        counts = {key: np.array(counted, dtype=np.int64) for key, (_, counted) in histograms.items()}
        right = whole["format"] == _FORMAT and all(
            bounds == BOUNDS[feature] and counts[feature].shape == (len(bounds) + 1,) and (counts[feature] >= 0).all()
            for feature, (bounds, _) in histograms.items()
        )
        made_from = str(whole.get("made_from", ""))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            got=f"{name!r} is no fingerprint: {type(error).__name__}: {error}",
            allowed="a file of `cutray drift fingerprint`, or one that training wrote",
            fix="make it anew",
        ) from error
    if not right:
        raise InputError(
            got=f"{name!r} has other buckets than this version counts in",
            allowed="the buckets of this version",
            fix="make it anew with `cutray drift fingerprint`",
        )
    return Fingerprint(counts, made_from)


def compare(reference: Fingerprint, live: Fingerprint) -> list[Difference]:
    """Compare photos of today with the reference, feature by feature.

    A feature has drifted if its distribution differs more than chance explains and the difference is a large one: with
    many photos every difference is significant, and with few every index is large.

    Args:
        reference: Of the photos that the network was trained on.
        live: Of the photos of today.

    Returns:
        One entry for each feature that both know, in the order of ``BOUNDS``.

    Source: population stability index with thresholds 0.1 and 0.25: Siddiqi, "Credit Risk Scorecards", 2006;
        two-sample test: Smirnov, 1939, on binned counts, which makes it conservative, with the approximation of
        Press et al., "Numerical Recipes", 3rd ed., 14.3.3; for shares Pearson's test of homogeneity; over all features
        Bonferroni's correction.
    """
    known = [name for name in BOUNDS if name in reference.counts and name in live.counts]
    return [_difference(name, reference.counts[name], live.counts[name], len(known)) for name in known]


def _difference(name: str, expected: NDArray[np.int64], actual: NDArray[np.int64], tests: int) -> Difference:
    """Compare two histograms of one feature."""
    there, here = int(expected.sum()), int(actual.sum())
    psi = population_stability_index(expected, actual)
    share = len(expected) == 2
    statistic, p_value = _test_shares(expected, actual) if share else kolmogorov_smirnov(expected, actual)
    if min(there, here) < FEWEST:
        verdict = "few"
    elif p_value >= SIGNIFICANCE / tests or psi < MODERATE_PSI:
        verdict = "same"
    else:
        verdict = "drifted" if psi >= MAJOR_PSI else "shifted"
    middle = _share_of if share else _median_of
    bounds = BOUNDS[name]
    return Difference(name, middle(expected, bounds), middle(actual, bounds), psi, statistic, p_value, verdict)


def population_stability_index(expected: NDArray[np.int64], actual: NDArray[np.int64]) -> float:
    """Measure how much two histograms differ: the symmetrised Kullback–Leibler divergence of their shares.

    Args:
        expected: Counts per bucket.
        actual: Counts in the same buckets; half a photo is added to each bucket, so that empty ones have a logarithm.
    """
    p = (expected + 0.5) / (expected.sum() + 0.5 * len(expected))
    q = (actual + 0.5) / (actual.sum() + 0.5 * len(actual))
    return float(((p - q) * np.log(p / q)).sum())


def kolmogorov_smirnov(expected: NDArray[np.int64], actual: NDArray[np.int64]) -> tuple[float, float]:
    """Test whether two binned samples may come from one distribution.

    Args:
        expected: Counts per bucket.
        actual: Counts in the same buckets.

    Returns:
        D, the largest distance of the cumulative shares, and the probability of one like it by chance.
    """
    there, here = int(expected.sum()), int(actual.sum())
    if not there or not here:
        return 0.0, 1.0
    distance = float(np.abs(np.cumsum(expected) / there - np.cumsum(actual) / here).max())
    root = math.sqrt(there * here / (there + here))
    return distance, _kolmogorov((root + 0.12 + 0.11 / root) * distance)


def _kolmogorov(x: float) -> float:
    """Return the probability that Kolmogorov's statistic is larger than x."""
    if x < 0.2:  # where the series has not begun to converge, the value is 1 to 12 digits
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, float(sum(terms))))


def _test_shares(expected: NDArray[np.int64], actual: NDArray[np.int64]) -> tuple[float, float]:
    """Test whether two shares may be equal; returns their difference and its probability by chance."""
    table = np.array([expected, actual], dtype=np.float64)
    rows, columns, total = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True), table.sum()
    if not rows.all():
        return 0.0, 1.0
    difference = float(abs(table[0, 1] / rows[0, 0] - table[1, 1] / rows[1, 0]))
    if not columns.all():
        return difference, 1.0
    wanted = rows @ columns / total
    chi_squared = float(((table - wanted) ** 2 / wanted).sum())
    return difference, math.erfc(math.sqrt(chi_squared / 2))


def _share_of(counts: NDArray[np.int64], bounds: Sequence[float]) -> float:  # noqa: ARG001 (as the other one)
    """Return the share of photos that have something."""
    return float(counts[1] / counts.sum()) if counts.sum() else math.nan


def _median_of(counts: NDArray[np.int64], bounds: Sequence[float]) -> float:
    """Estimate the median within its bucket, as if its photos lay evenly there."""
    total = counts.sum()
    if not total:
        return math.nan
    cumulated = np.cumsum(counts)
    bucket = int(np.searchsorted(cumulated, total / 2))
    if bucket == len(bounds):
        return float(bounds[-1])
    low = bounds[bucket - 1] if bucket else 0.0
    inside = (total / 2 - (cumulated[bucket] - counts[bucket])) / counts[bucket]
    return float(low + inside * (bounds[bucket] - low))
