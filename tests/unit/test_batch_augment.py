"""What is augmented on the device looks like what is augmented on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cutray.config import AugmentSettings, TrainSettings, parse_settings  # noqa: E402
from cutray.data.augment import _colors, _warp, augment, photometric  # noqa: E402
from cutray.data.catalog import build_catalog  # noqa: E402
from cutray.data.loading import training_samples  # noqa: E402
from cutray.data.synthetic import draw_scene  # noqa: E402
from cutray.training.augment_plan import Plan, Shape, plan_batch  # noqa: E402
from cutray.training.batch_augment import augment_batch, gaussian_blur, own_colors, photometric_batch  # noqa: E402
from cutray.training.cache import SampleCache  # noqa: E402
from cutray.training.jpeg import compress  # noqa: E402
from cutray.training.runtime import LocalRuntime  # noqa: E402
from cutray.training.warps import warp  # noqa: E402
from tests.scenes import write_pairs  # noqa: E402

SIDE = 96
NONE = dict.fromkeys(AugmentSettings.model_fields, 0.0)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    drawn = draw_scene("ordinary", np.random.default_rng(3), SIDE, SIDE, family="train")
    return drawn.image, np.asarray(drawn.alpha, np.float32)


def _planes(image: np.ndarray) -> torch.Tensor:
    """Return (1, 3, S, S) float32 of a picture."""
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def _difference(device: torch.Tensor, processor: np.ndarray) -> float:
    """Return the mean difference of two pictures in 255ths."""
    return float((device[0].permute(1, 2, 0) - torch.from_numpy(processor.astype(np.float32))).abs().mean())


def test_a_view_is_the_same(scene: tuple[np.ndarray, np.ndarray]) -> None:
    """A turn with perspective shows the same as OpenCV's, mirrored borders included."""
    settings = AugmentSettings(rotate_deg=25, perspective=0.15)
    for seed in range(4):
        seen = _warp(*scene, np.random.default_rng(seed), settings)[0]
        plan = plan_batch(
            [Shape.of(np.rint(scene[1] * 255).astype(np.uint8))],
            [None],
            [_Replay(seed)],
            SIDE,
            AugmentSettings.model_validate({**NONE, "warp": 1, "rotate_deg": 25, "perspective": 0.15}),
        )
        arrays = (torch.from_numpy(values) for values in (plan.matrices, plan.boxes, plan.flips))
        assert _difference(warp(_planes(scene[0]), *arrays), seen) < 0.6


class _Replay(np.random.Generator):
    """Gives nothing but zeros until views are chosen, so that both sides choose the same one."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))

    def random(self, size: Any = None) -> Any:  # type: ignore[override]
        return np.zeros(size) if size else 0.0


def test_a_crop_is_the_same(scene: tuple[np.ndarray, np.ndarray]) -> None:
    """A box, enlarged and mirrored, is what OpenCV makes of the slice."""
    part = cv2.resize(scene[0][12:84, 20:90], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[:, ::-1]
    eye = torch.eye(3)[None]
    seen = warp(_planes(scene[0]), eye, torch.tensor([[20.0, 12, 70, 72]]), torch.tensor([True]))
    assert _difference(seen, part) < 0.6


@pytest.mark.parametrize("quality", [35, 60, 88])
def test_compression_is_that_of_jpeg(scene: tuple[np.ndarray, np.ndarray], quality: int) -> None:
    """Next to the same is lost as by a real encoder, and far more than the difference between the two."""
    bgr = cv2.cvtColor(scene[0], cv2.COLOR_RGB2BGR)
    real = cv2.imdecode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    rgb = cv2.cvtColor(real, cv2.COLOR_BGR2RGB)
    ours = compress(_planes(scene[0]), torch.tensor([float(quality)]))
    lost = np.abs(rgb.astype(float) - scene[0]).mean()
    assert _difference(ours, rgb) < 0.3 * lost + 0.4  # two roundings
    assert _difference(ours, scene[0]) == pytest.approx(lost, rel=0.15)


def test_blur_and_tones_are_the_same(scene: tuple[np.ndarray, np.ndarray]) -> None:
    """A Gaussian with a deviation of its own for each picture, and the curves of one sample."""
    both = _planes(scene[0]).repeat(2, 1, 1, 1)
    blurred = gaussian_blur(both, torch.tensor([0.7, 2.2]))
    for place, sigma in enumerate((0.7, 2.2)):
        assert _difference(blurred[place : place + 1], cv2.GaussianBlur(scene[0], (0, 0), sigma)) < 0.6
    rng = np.random.default_rng(5)
    curve = [*np.exp(rng.uniform(-0.4, 0.4, 2)), *np.exp(rng.uniform(-0.3, 0.3, 3) * 0.4)]
    curve.append(np.exp(rng.uniform(-1, 1) * 0.4))
    plan = Plan(np.zeros((1, 4)), np.zeros(1, bool), np.eye(3)[None], np.float32([curve]))
    toned = photometric_batch(_planes(scene[0]), plan)
    assert _difference(toned, _colors(scene[0], np.random.default_rng(5), 0.4)) < 1.0


@pytest.mark.parametrize("name", ["color", "grey", "blur", "low_light", "noise", "jpeg"])
def test_each_change_is_as_strong(scene: tuple[np.ndarray, np.ndarray], name: str) -> None:
    """Over many samples, brightness, contrast and sharpness are those of the processor's changes."""
    count = 48
    settings = AugmentSettings.model_validate({**NONE, name: 0.4 if name == "color" else 1.0})
    shape = Shape.of(np.rint(scene[1] * 255).astype(np.uint8))
    plan = plan_batch([shape] * count, [None] * count, [np.random.default_rng(n) for n in range(count)], SIDE, settings)
    ours = photometric_batch(_planes(scene[0]).repeat(count, 1, 1, 1), plan).permute(0, 2, 3, 1).numpy()
    theirs = np.stack([photometric(scene[0], np.random.default_rng(1000 + n), settings) for n in range(count)])
    plain = _statistics(scene[0][None].astype(np.float32))
    one, two = _statistics(ours), _statistics(theirs.astype(np.float32))
    assert one == pytest.approx(two, rel=0.12, abs=1.5), (name, plain)
    if name != "color":  # which changes each sample, but not their mean
        assert max(abs(np.subtract(one, plain)) / np.abs(plain)) > 0.03


def _statistics(pictures: np.ndarray) -> tuple[float, float, float, float]:
    """Return brightness, contrast, colorfulness, and the mean step between neighbours."""
    steps = np.abs(np.diff(pictures, axis=2)).mean()
    return tuple(map(float, (pictures.mean(), pictures.std((1, 2)).mean(), pictures.std(3).mean(), steps)))  # type: ignore[return-value]


def test_photo_and_alpha_move_together(scene: tuple[np.ndarray, np.ndarray]) -> None:
    """A photo that shows its own alpha still does, whatever the frame, turn and mirror; cuts cut the subject."""
    alpha = np.rint(scene[1] * 255).astype(np.uint8)
    settings = AugmentSettings.model_validate(
        {**NONE, "flip": 0.5, "crop": 0.4, "warp": 1, "rotate_deg": 20, "perspective": 0.1, "cut_subject": 0.5}
    )
    count = 8
    plan = plan_batch(
        [Shape.of(alpha)] * count, [None] * count, [np.random.default_rng(n) for n in range(count)], SIDE, settings
    )
    shown = torch.from_numpy(np.repeat(alpha[..., None], 3, 2)).repeat(count, 1, 1, 1)
    pixels, cover = augment_batch(shown, torch.from_numpy(alpha).repeat(count, 1, 1), None, plan)
    assert float((pixels / 255 - cover).abs().max()) < 0.005
    assert float((cover[0] - cover[1]).abs().mean()) > 0.01


def test_a_new_background_leaves_the_subject_and_no_fringe(scene: tuple[np.ndarray, np.ndarray]) -> None:
    """A half covered pixel shows half of the subject's own color, not half of a mixture with the old background."""
    disc = np.hypot(*(np.indices((SIDE, SIDE)) - SIDE / 2))
    alpha = np.clip((34 - disc) / 16, 0, 1).astype(np.float32)
    image = np.rint(alpha[..., None] * [200, 40, 40] + (1 - alpha[..., None]) * [20, 220, 20]).astype(np.uint8)
    wanted = alpha[..., None] * [200, 40, 40] + (1 - alpha[..., None]) * 128
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    by_processor = augment(image, alpha, SIDE, np.random.default_rng(0), AugmentSettings.model_validate(NONE), grey)[0]
    colors = own_colors(_planes(image), torch.from_numpy(alpha)[None, None])[0].permute(1, 2, 0).numpy()
    half = (alpha > 0.3) & (alpha < 0.7)
    squared = alpha[..., None] * image + (1 - alpha[..., None]) * 128
    assert np.abs(squared - wanted)[half].mean() > 15
    assert np.abs(by_processor - wanted)[half].mean() < 6
    assert np.abs(colors - [200, 40, 40])[half].mean() < 0.4 * np.abs(image - [200.0, 40, 40])[half].mean()


def test_a_collection_in_memory_gives_the_same_batches_again(tmp_path: Path) -> None:
    """Batches follow from seed, epoch and sample alone; each epoch varies anew; backgrounds come from other photos."""
    values: dict[str, Any] = {
        "seed": 1,
        "data": {"folders": [str(write_pairs(tmp_path, 8, side_px=64))], "side_px": 64},
    }
    values["data"] |= {"cache": "ram", "repeat": 2}
    settings = parse_settings(TrainSettings, {**values, "augment": {"new_background": 1.0}})
    samples = training_samples(build_catalog(settings.data, 1), settings.data)
    cache = SampleCache(samples, settings, LocalRuntime(tmp_path, 3, torch.device("cpu")))
    assert len(cache.shapes) == len(samples) // 2
    first, again, later = (list(cache.batches(samples, 3, epoch, settings.augment)) for epoch in (0, 0, 1))
    assert [len(image) for image, _ in first] == [3] * (len(samples) // 3) + [len(samples) % 3] * bool(len(samples) % 3)
    assert all(
        torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]) for one, two in zip(first, again, strict=True)
    )
    assert not torch.equal(first[0][0], later[0][0])
    skipped = list(cache.batches(samples[3:], 3, 0, settings.augment))
    assert torch.equal(skipped[0][0], first[1][0])
