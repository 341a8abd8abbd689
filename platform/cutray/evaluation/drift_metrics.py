"""Reads the histograms of photos out of what Prometheus is shown."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import numpy as np

from cutray.errors import InputError
from cutray.evaluation.drift import BOUNDS, Fingerprint

_SAMPLE = re.compile(r"^ray_cutray_drift_(\w+)_bucket\{(.*)\}\s+(\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read_metrics(text: str) -> dict[str, Fingerprint]:
    """Add up the histograms of all processes, model by model.

    Args:
        text: Metrics in Prometheus' text format.

    Returns:
        Name of each model and the photos that it has seen; nothing where no photos were counted.

    Raises:
        InputError: The endpoint counts in other buckets than this version.
    """
    # Feature, model and the other labels name one cumulated histogram.
    series: defaultdict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
    for feature, labels, value in _SAMPLE.findall(text):
        found = dict(_LABEL.findall(labels))
        model, bound = found.pop("model", ""), found.pop("le", "")
        if feature in BOUNDS and bound:
            series[feature, model, repr(sorted(found.items()))][float(bound)] = float(value)
    models: dict[str, Fingerprint] = {}
    for (feature, model, _), cumulated in series.items():
        bounds = sorted(cumulated)
        if tuple(bounds) != (*BOUNDS[feature], math.inf):
            raise InputError(
                got=f"the endpoint counts {feature} in other buckets",
                allowed="an endpoint of this version",
                fix="use the `cutray` that the endpoint runs",
            )
        counts = np.diff(np.rint([cumulated[bound] for bound in bounds]), prepend=0).astype(np.int64)
        seen = models.setdefault(model, Fingerprint(made_from="live traffic"))
        seen.counts[feature] = seen.counts.get(feature, np.zeros_like(counts)) + counts
    return models
