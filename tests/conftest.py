"""What several tiers share: the tier's marker on each test, real photos, and one loaded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.errors import WeightsUnavailableError
from cutray.models.weights import resolve
from cutray.remover import BackgroundRemover

TESTS = Path(__file__).parent
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, which is the name of its folder."""
    for item in items:
        parts = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
        if len(parts) > 1:
            item.add_marker(parts[0])


def require_weights(name: str) -> Path:
    """Return where published weights lie, or skip the test if this machine does not have them."""
    try:
        return resolve(name, offline=True).path
    except WeightsUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Return the sample photos of scikit-image by name, (H, W, 3) uint8 each."""
    data = pytest.importorskip("skimage.data", reason="the sample photos are part of scikit-image")
    loaded = {name: getattr(data, name)() for name in PHOTOS}
    return {name: a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for name, a in loaded.items()}


@pytest.fixture(scope="session")
def photo_files(photos: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sample photos as JPEG; tests must not write into it."""
    folder = tmp_path_factory.mktemp("photos")
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def remover() -> BackgroundRemover:
    """Return a remover with the small model."""
    require_weights("u2netp")
    return BackgroundRemover("u2netp", offline=True)
