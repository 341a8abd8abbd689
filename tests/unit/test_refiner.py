"""The edge refiner: its network, the file it is exported to, what it learns from, and that it learns."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cutray.config import RefinerSettings
from cutray.data.coarse import coarse_from_probs, coarse_from_truth
from cutray.data.scenes import draw_scene
from cutray.errors import WeightsError
from cutray.matting.refine import Refiner, work_size
from cutray.models.refiner import EdgeRefiner, export_refiner, new_refiner, save_refiner
from cutray.training.refiner import Crops, Progress, refiner_loss, train_refiner
from pipelines.refiner.crops import crop
from pipelines.refiner.examples import Example


@pytest.fixture(scope="module")
def network() -> EdgeRefiner:
    """A network whose head is not zero, so that its other layers count."""
    torch.manual_seed(0)
    network = EdgeRefiner().eval()
    torch.nn.init.normal_(network.head.weight, std=0.2)
    return network


def _crops(seed: int = 0, side: int = 64) -> Crops:
    """Draw one scene as a batch of one."""
    scene = draw_scene("fine_detail", np.random.default_rng(seed), side, side)
    coarse = coarse_from_truth(scene.alpha, np.random.default_rng(seed), 4.0)
    return Crops.stack(scene.image[None], coarse[None], scene.alpha[None])


def test_an_untrained_network_returns_the_coarse_alpha_in_faint() -> None:
    """Training begins where the large network left off."""
    crops = _crops()
    with torch.no_grad():
        alpha = torch.sigmoid(EdgeRefiner().eval()(crops.image, crops.coarse))
    sure = crops.coarse > 0.9
    assert alpha[sure].min() > 0.68
    assert alpha[crops.coarse < 0.1].max() < 0.32


def test_the_network_is_small(network: EdgeRefiner) -> None:
    """Between 100 and 400 thousand parameters, below 2 MB as a file."""
    assert 100_000 < sum(values.numel() for values in network.parameters()) < 400_000
    assert len(export_refiner(network)) < 2_000_000


def test_the_exported_file_computes_the_same_at_any_size(network: EdgeRefiner, tmp_path: Path) -> None:
    """What OpenCV computes from the file, folding included, is what PyTorch computes."""
    (tmp_path / "refiner.onnx").write_bytes(export_refiner(network))
    refiner = Refiner(tmp_path / "refiner.onnx")
    rng = np.random.default_rng(1)
    for height, width in ((64, 96), (112, 48)):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        coarse = rng.random((height, width), np.float32)
        crops = Crops.stack(image[None], coarse[None], coarse[None])
        with torch.no_grad():
            expected = torch.sigmoid(network(crops.image, crops.coarse))[0, 0].numpy()
        np.testing.assert_allclose(refiner.redraw(image, coarse), expected, atol=1e-4)


def test_a_photo_of_any_size_gets_an_alpha_of_its_size(network: EdgeRefiner, tmp_path: Path) -> None:
    """Working size and full size are the refiner's business."""
    (tmp_path / "refiner.onnx").write_bytes(export_refiner(network))
    image = np.full((131, 77, 3), 90, np.uint8)
    alpha = Refiner(tmp_path / "refiner.onnx").draw(np.ones((32, 32), np.float32), image, 64)
    assert alpha.shape == (131, 77) and alpha.dtype == np.float32
    assert alpha.min() >= 0 and alpha.max() <= 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A file that is no refiner says so, and how to make one."""
    (tmp_path / "other.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match="train_refiner"):
        Refiner(tmp_path / "other.onnx")


def test_working_sizes_fit_the_network() -> None:
    """Multiples of sixteen, about as many pixels as asked for, never larger than the photo by more than a step."""
    assert work_size(3000, 4000, 480) == (416, 560)
    for height, width in ((1, 5000), (100, 120), (4000, 3000)):
        rows, columns = work_size(height, width, 480)
        assert rows % 16 == columns % 16 == 0
        assert rows < height + 16 and columns < width + 16


@pytest.mark.parametrize("seed", range(8))
def test_a_spoilt_truth_is_an_alpha_and_follows_from_the_seed(seed: int) -> None:
    """Whatever is done to it, it stays in range, and the same seed does the same."""
    truth = draw_scene("texture", np.random.default_rng(seed), 96, 96).alpha
    one, two = (coarse_from_truth(truth, np.random.default_rng(seed), 3.0) for _ in range(2))
    assert one.shape == truth.shape and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 1
    np.testing.assert_array_equal(one, two)


def test_larger_cells_make_a_map_coarser() -> None:
    """The same map, seen as if the photo were larger, has less detail."""
    probs = np.zeros((320, 320), np.float32)
    probs[:, ::8] = 1
    fine, coarse = (coarse_from_probs(probs, (320, 320), cell) for cell in (1.0, 8.0))
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.3 * np.abs(np.diff(fine, axis=1)).mean()


def test_crops_have_the_size_that_was_asked_for_and_belong_together() -> None:
    """Image, coarse alpha and truth are cut at one place, whatever the example's size."""
    scene = draw_scene("ordinary", np.random.default_rng(3), 200, 260)
    truth = np.rint(scene.alpha * 255).astype(np.uint8)
    example = Example(scene.image, truth, cv2.resize(truth, (320, 320), interpolation=cv2.INTER_AREA))
    settings = RefinerSettings(crop_px=128, perturbed_share=0.0)
    for seed in range(4):
        image, coarse, alpha = crop(example, np.random.default_rng(seed), settings)
        assert image.shape == (128, 128, 3) and coarse.shape == alpha.shape == (128, 128)
        assert np.abs(coarse - alpha).mean() < 0.05


def test_weights_are_kept_and_read_again(network: EdgeRefiner, tmp_path: Path) -> None:
    """A training goes on from a file; a file of something else is refused."""
    save_refiner(network, tmp_path / "refiner.safetensors")
    again = new_refiner(1, tmp_path / "refiner.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), again.parameters(), strict=True))
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="other"):
        new_refiner(1, tmp_path / "other.safetensors")


def test_training_lowers_the_loss() -> None:
    """Forty steps on one picture draw it better than it was given."""
    crops = _crops(5)
    reports: list[Progress] = []
    settings = RefinerSettings(steps=40, batch_size=1, lr=1e-2, ema_decay=0.5, report_every_steps=40)
    trained = train_refiner(new_refiner(0), itertools.repeat(crops), settings, reports.append)
    before = refiner_loss(EdgeRefiner().eval()(crops.image, crops.coarse), crops)
    after = refiner_loss(trained(crops.image, crops.coarse), crops)
    assert float(after.detach()) < 0.8 * float(before.detach())
    assert [report.step for report in reports] == [40]
