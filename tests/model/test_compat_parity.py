"""Programs written for the classic recipe get the mask that they have got so far."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cutray.compat import new_session, remove
from cutray.errors import EngineUnavailableError
from cutray.remover import BackgroundRemover
from tests.conftest import PHOTOS, require_weights

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# The large model takes several times as long, so that two photos have to do for it.
CASES = {"u2netp": PHOTOS, "u2net": ("astronaut", "chelsea")}


@pytest.fixture(scope="module")
def published_masks(photos: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Run the recipe as it is published, with nothing of ours; returns (H, W) uint8 masks by model and photo."""
    onnxruntime = pytest.importorskip("onnxruntime")
    masks: dict[str, dict[str, np.ndarray]] = {}
    for model, titles in CASES.items():
        session = onnxruntime.InferenceSession(str(require_weights(model)), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        masks[model] = {}
        for title in titles:
            photo = photos[title]
            values = np.asarray(Image.fromarray(photo).resize((320, 320), Image.Resampling.LANCZOS)) / 1.0
            normal = (values / max(values.max(), 1e-6) - MEAN) / STD
            first = session.run(None, {name: normal.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]
            stretched = (first - first.min()) / (first.max() - first.min())
            small = Image.fromarray((stretched.clip(0, 1) * 255).astype(np.uint8))
            size = (photo.shape[1], photo.shape[0])
            masks[model][title] = np.asarray(small.resize(size, Image.Resampling.LANCZOS))
    return masks


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    """Return the name of an engine that is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.parametrize("model", CASES)
def test_masks_are_the_published_ones(
    model: str, engine: str, photos: dict[str, np.ndarray], published_masks: dict[str, dict[str, np.ndarray]]
) -> None:
    """On every photo the mask is within a tenth of a level of the published recipe on average, with each engine."""
    session = new_session(model, engine=engine, offline=True)
    for title in CASES[model]:
        mask = remove(photos[title], session=session, only_mask=True).astype(int)
        difference = np.abs(mask - published_masks[model][title])
        assert difference.mean() <= 0.1, title
        assert np.quantile(difference, 0.999) <= 2, title


def test_chain_has_the_same_switch(
    photos: dict[str, np.ndarray], published_masks: dict[str, dict[str, np.ndarray]]
) -> None:
    """`compat=True` of the remover itself gives the same mask."""
    remover = BackgroundRemover("u2netp", compat=True, precision="fp32", offline=True)
    _, mask = remover.remove_background(photos["coffee"])
    assert np.abs(mask.astype(int) - published_masks["u2netp"]["coffee"]).mean() <= 0.1


def test_fastest_precision_stays_close(
    photos: dict[str, np.ndarray], published_masks: dict[str, dict[str, np.ndarray]]
) -> None:
    """With the precision left to choice the mask is within 3 levels of the published recipe on average."""
    try:
        session = new_session("u2net", precision="auto", engine="openvino", offline=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    for title in CASES["u2net"]:
        mask = remove(photos[title], session=session, only_mask=True).astype(int)
        assert np.abs(mask - published_masks["u2net"][title]).mean() <= 3, title
