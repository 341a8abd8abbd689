"""Which edge cases a photo has, how sure that is, where they are, and why.

Four logistic models, one per case and independent of each other, read the measurements of `features`; four more say
for each tile whether the case lies there if the photo has it. Their coefficients are in `edge_cases.json`, which
`python -m pipelines.fit_edge_detector` makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.errors import InputError
from cutray.matting.features import F32, TILES, Measurements, measure

EDGE_CASES = ("fine_detail", "transparency", "reflectivity", "texture")
COEFFICIENTS = Path(__file__).with_name("edge_cases.json")
_LARGEST_LOGIT = 30.0


@dataclass(frozen=True, slots=True)
class EdgeCases:
    """What was detected.

    Attributes:
        scores: Probability of each case, in [0, 1].
        present: The cases whose score reaches the level at which nine of ten such verdicts were right when the
            models were fitted.
        measured: What that was judged by; None for an empty scene.
    """

    scores: dict[str, float]
    present: tuple[str, ...]
    measured: Measurements | None

    @property
    def features(self) -> dict[str, float]:
        """What was measured; empty for an empty scene."""
        return {} if self.measured is None else self.measured.features

    def locate(self) -> F32:
        """Tell for each tile of the frame and each case how likely it lies there, (T, T, 4) float32 in [0, 1]."""
        if self.measured is None:
            return np.zeros((TILES, TILES, len(EDGE_CASES)), np.float32)
        where = sigmoid(load_detector().tiles.logits(self.measured.tiles()))
        return np.asarray(where * np.array([self.scores[case] for case in EDGE_CASES], np.float32))


@dataclass(frozen=True, slots=True)
class Reason:
    """What one feature adds to a score.

    Attributes:
        feature: Its name.
        value: Its value in this photo.
        contribution: What it adds to the score's logit, against a typical photo.
    """

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """A set of logistic models on the same inputs.

    Attributes:
        mean: (K,) of the inputs when fitted.
        scale: (K,) standard deviations of the inputs.
        weights: (4, K) per case.
        bias: (4,) per case.
    """

    mean: F32
    scale: F32
    weights: F32
    bias: F32

    def logits(self, inputs: NDArray[np.floating]) -> F32:
        """Return (…, 4) logits of (…, K) inputs."""
        return np.asarray(self.normalise(inputs) @ self.weights.T + self.bias, np.float32)

    def normalise(self, inputs: NDArray[np.floating]) -> F32:
        """Bring inputs to about the same size; what lies far outside the known range counts as its end."""
        return np.asarray(np.clip((inputs - self.mean) / self.scale, -4, 4), np.float32)


@dataclass(frozen=True, slots=True)
class Detector:
    """All coefficients.

    Attributes:
        names: The K feature names, in the order of the columns.
        whole: Models of the photo.
        tiles: Models of a tile.
        levels: Score from which each case counts as present.
    """

    names: tuple[str, ...]
    whole: LogisticModel
    tiles: LogisticModel
    levels: dict[str, float]


def detect_edge_cases(image: NDArray[np.uint8], probs: F32) -> EdgeCases:
    """Judge which edge cases a photo has.

    Args:
        image: (H, W, 3) uint8, sRGB; a copy of at most 640 px is enough.
        probs: (S, S) float32 in [0, 1], the network's answer for the same frame.

    Returns:
        Scores, verdicts, and what was measured.

    Raises:
        InputError: The image is not (H, W, 3) uint8, or the probabilities are not (S, S).
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or probs.ndim != 2:
        raise InputError(
            got=f"an image of shape {image.shape} and {image.dtype}, and probabilities of shape {probs.shape}",
            allowed="(H, W, 3) uint8 and (S, S) float32",
        )
    measured = measure(image, np.asarray(probs, np.float32))
    if measured is None:
        return EdgeCases(dict.fromkeys(EDGE_CASES, 0.0), (), None)
    detector = load_detector()
    inputs = np.array([measured.features[name] for name in detector.names], np.float32)
    scores = sigmoid(detector.whole.logits(inputs))
    found = dict(zip(EDGE_CASES, map(float, scores), strict=True))
    present = tuple(case for case in EDGE_CASES if found[case] >= detector.levels[case])
    return EdgeCases(found, present, measured)


def feature_contributions(found: EdgeCases, amount: int = 6) -> dict[str, list[Reason]]:
    """Name the features that speak most for or against each case.

    Args:
        found: What was detected.
        amount: Most reasons per case.

    Returns:
        Reasons by case, the strongest first; none for an empty scene.
    """
    if not found.features:
        return {case: [] for case in EDGE_CASES}
    detector = load_detector()
    inputs = np.array([found.features[name] for name in detector.names], np.float32)
    parts = detector.whole.weights * detector.whole.normalise(inputs)
    return {
        case: [
            Reason(detector.names[index], float(inputs[index]), float(row[index]))
            for index in np.argsort(-np.abs(row))[:amount]
        ]
        for case, row in zip(EDGE_CASES, parts, strict=True)
    }


def sigmoid(logits: F32) -> F32:
    """Turn logits into probabilities."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT))), np.float32)


@lru_cache(maxsize=1)
def load_detector() -> Detector:
    """Read the coefficients that are part of the package."""
    stored = json.loads(COEFFICIENTS.read_text())
    return Detector(tuple(stored["names"]), _linear(stored["whole"]), _linear(stored["tiles"]), stored["levels"])


def _linear(stored: dict[str, Any]) -> LogisticModel:
    """Build models from plain lists."""
    return LogisticModel(**{name: np.array(values, np.float32) for name, values in stored.items()})
