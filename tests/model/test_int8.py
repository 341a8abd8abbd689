"""Eight bits with the published weights, against fp32."""

from __future__ import annotations

import numpy as np
import pytest

from cutray.config import EngineSettings
from cutray.engines.hardware import inspect_hardware
from cutray.segmenter import Segmenter
from tests.conftest import require_weights

pytestmark = pytest.mark.skipif(not inspect_hardware().computes_in_int8, reason="the processor has no VNNI")


@pytest.mark.parametrize(
    ("model", "mean_bound", "worst_bound"),
    [
        ("u2net", 0.003, 0.008),
        ("u2net-lean", 0.004, 0.012),
        ("u2net-lean-288", 0.004, 0.012),
        ("u2netp", 0.008, 0.02),
        ("isnet", 0.006, 0.02),
    ],
)
def test_probabilities_are_those_of_fp32(
    model: str, mean_bound: float, worst_bound: float, photos: dict[str, np.ndarray]
) -> None:
    """Over the sample photos, and on each, probabilities in int8 differ little from those in fp32."""
    pytest.importorskip("openvino")
    require_weights(model)
    images = list(photos.values())
    exact, quantised = (
        Segmenter.load(EngineSettings(model=model, engine="openvino", precision=precision, offline=True))
        for precision in ("fp32", "int8")
    )
    assert quantised.engine.precision == "int8"
    difference = np.abs(np.array(quantised.segment(images)) - np.array(exact.segment(images))).mean((1, 2))
    assert difference.mean() <= mean_bound
    assert difference.max() <= worst_bound


def test_both_networks_of_the_vote_compute_in_int8() -> None:
    """Unasked, each member of `u2net+isnet` takes int8 here."""
    pytest.importorskip("openvino")
    for member in ("u2net", "isnet"):
        require_weights(member)
    settings = EngineSettings(model="u2net+isnet", engine="openvino", offline=True)
    assert Segmenter.load(settings).engine.precision == "int8"
