"""A photo that lies on the network's device is seen, and its alpha brought to full size, as on the processor."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cutray import BackgroundRemover  # noqa: E402
from cutray.config import RemoverSettings, parse_settings  # noqa: E402
from cutray.data.synthetic import draw_scene  # noqa: E402
from cutray.engines.device_photo import DevicePhoto  # noqa: E402
from cutray.engines.pytorch import PyTorchEngine  # noqa: E402
from cutray.matting.edges import matte_edges  # noqa: E402
from cutray.matting.full_size import FullSizeArray  # noqa: E402
from cutray.models.u2net import load_u2net  # noqa: E402
from cutray.models.weights import resolve  # noqa: E402
from cutray.preprocess import ArrayViews, ResidentViews, View  # noqa: E402
from cutray.remover import Removal  # noqa: E402
from cutray.segmenter import Segmenter  # noqa: E402
from pipelines.batch.shared_engine import SharedEngine  # noqa: E402

CPU = torch.device("cpu")
WEIGHTS = resolve("u2netp-distilled")  # part of the package
# Small, odd, twice and four times the network's input, and longer than wide.
SIZES = [(150, 201), (907, 1201), (640, 640), (1280, 1284), (330, 1401)]


def _scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a drawn photo with grain, and its alpha."""
    scene = draw_scene("ordinary", np.random.default_rng(7), 240, 240, family="train")
    image, alpha = (
        cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in (scene.image, scene.alpha)
    )
    grain = np.random.default_rng(1).integers(-25, 26, image.shape)
    return np.clip(image.astype(int) + grain, 0, 255).astype(np.uint8), np.clip(alpha, 0, 1).astype(np.float32)


def _on_device(image: np.ndarray) -> DevicePhoto:
    return DevicePhoto(image, CPU, contextlib.nullcontext)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("scale", ["255", "max"])
def test_views_are_the_same(height: int, width: int, scale: Any) -> None:
    """The whole photo, a part of it, and their mirror images: at most two levels of 255 apart, .2 on average."""
    spec = replace(WEIGHTS.spec, scale=scale)
    image = _scene(height, width)[0] // 2
    image.flags.writeable = False  # as a decoded file's is
    part = (11, 7, width - 20, height - 9)
    views = [View(), View(mirrored=True), View(part), View(part, mirrored=True)]
    wanted = ArrayViews(image, spec, compat=False).batch(views)
    found = ResidentViews(_on_device(image), spec).batch(views).numpy()
    assert found.shape == wanted.shape
    peak = 128 if scale == "max" else 255
    levels = np.abs(found - wanted) * np.array(spec.std, np.float32).reshape(3, 1, 1) * peak
    assert levels.max() <= 2.01
    assert levels.mean() <= 0.2


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_alpha_at_full_size_is_the_same(height: int, width: int) -> None:
    """Made small, brought to full size, and along the photo's colors: .05 apart at most, .0002 on average."""
    image, alpha = _scene(height, width)
    array, photo = FullSizeArray(image), _on_device(image)
    rows, columns = height // 3, width // 3
    assert np.abs(array.shrink(rows, columns).astype(int) - photo.shrink(rows, columns)).max() <= 1
    levelled = cv2.resize(alpha, (80, 80), interpolation=cv2.INTER_AREA) * 1.1 - 0.05
    assert np.abs(array.upsample(levelled) - photo.upsample(levelled)).max() < 1e-4
    wanted = matte_edges(levelled, 80, image, 200)
    difference = np.abs(matte_edges(levelled, 80, image, 200, photo) - wanted)
    assert difference.max() <= 0.05
    assert difference.mean() <= 2e-4
    plain = np.abs(array.upsample(levelled) - wanted)
    assert plain.mean() > 20 * difference.mean()  # the colors have moved far more


def _segmenter(*, keep_photos: bool | None) -> Segmenter:
    """Return the packaged network in PyTorch."""
    settings = parse_settings(RemoverSettings, {"model": "u2netp-distilled", "engine": "pytorch", "precision": "fp32"})
    made = Segmenter.of(WEIGHTS, settings)
    engine = PyTorchEngine(
        lambda: load_u2net(WEIGHTS.path),
        WEIGHTS.spec.input_size_px,
        device="cpu",
        precision="fp32",
        threads=1,
        keep_photos=keep_photos,
    )
    return replace(made, engine=engine)


@pytest.fixture(scope="module")
def remover() -> BackgroundRemover:
    """A remover whose photos lie on the device, which here is the processor."""
    made = BackgroundRemover("u2netp-distilled", engine="pytorch", precision="fp32", quality="best", min_confidence=0)
    made.segmenter = _segmenter(keep_photos=True)
    return made


def _same(one: Any, two: Any) -> None:
    """Two masks are the same but for a few pixels at the edge."""
    assert isinstance(one, Removal) and isinstance(two, Removal)
    difference = np.abs(one.mask.astype(int) - two.mask)
    assert difference.mean() < 0.2
    assert (difference > 12).mean() < 0.002


def test_the_whole_chain_gives_the_same_masks(remover: BackgroundRemover) -> None:
    """One photo, several at once, and from threads that share passes: as from arrays; marks work after it."""
    images = [_scene(420, 560)[0], _scene(300, 300)[0][:, ::-1]]
    fast = partial(remover.remove_background, quality="fast")
    on_device = remover.segmenter
    remover.segmenter = _segmenter(keep_photos=None)
    best, wanted = remover.remove_background(images[0]), [fast(image) for image in images]
    remover.segmenter = on_device
    assert best.report.looks == 4
    assert best.mask.any() and not best.mask.all()
    _same(remover.remove_background(images[0]), best)
    for one, two in zip(remover.remove_many(images, quality="fast"), wanted, strict=True):
        _same(one, two)
    remover.segmenter = replace(on_device, engine=SharedEngine(on_device.engine, 4))
    with ThreadPoolExecutor(2) as pool:
        for one, two in zip(pool.map(fast, images), wanted, strict=True):
            _same(one, two)
    remover.segmenter = on_device


def test_only_where_it_helps(remover: BackgroundRemover) -> None:
    """On a processor an engine keeps no photos by itself; hints and the classic recipe work on arrays anyway."""
    image = _scene(200, 260)[0]
    assert _segmenter(keep_photos=None).engine.upload(image) is None  # type: ignore[attr-defined]
    from cutray.chain import upload
    from cutray.sources import decode_source

    for options, kept in (({}, True), ({"compat": True}, False), ({"box": "10,10,200,180"}, False)):
        settings = parse_settings(RemoverSettings, {**remover.settings.model_dump(exclude_unset=True), **options})
        photo = decode_source(image, settings)
        assert (upload(photo, remover.segmenter, settings) is not None) == kept
    hinted = remover.remove_background(image, box="10,10,250,190")
    assert hinted.mask.shape == (200, 260)


def test_work_on_the_device_takes_turns() -> None:
    """While somebody has the turn, as in capturing a graph, a photo neither arrives nor is worked on."""
    turn = threading.Lock()
    photo = DevicePhoto(_scene(64, 64)[0], CPU, lambda: turn)
    with turn, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(photo.upsample, np.ones((8, 8), np.float32))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        turn.release()
        try:
            assert waiting.result(timeout=60).shape == (64, 64)
        finally:
            turn.acquire()
