"""The edge refiner: its network, the file it is exported to, what it learns from, and that it learns."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cutray.config import RefinerSettings
from cutray.data.synthetic import draw_scene
from cutray.errors import WeightsError
from cutray.matting.refine import WEIGHTS, Refiner, built_in_refiner, work_size
from cutray.models.refiner import EdgeRefiner, export_refiner, new_refiner, save_refiner
from cutray.training.refiner import Crops, Progress, refiner_loss, train_refiner
from pipelines.train_refiner.crops import crop
from pipelines.train_refiner.examples import Example


@pytest.fixture(scope="module")
def network() -> EdgeRefiner:
    """A network whose other layers count, and that is followed half."""
    torch.manual_seed(0)
    network = EdgeRefiner().eval()
    torch.nn.init.normal_(network.head.weight, std=2.0)
    torch.nn.init.constant_(network.head.bias[4:], 3.0)
    return network


def _crops(seed: int = 0, side: int = 64) -> Crops:
    """Draw one scene as a batch of one, with an alpha that has lost all detail."""
    scene = draw_scene("fine_detail", np.random.default_rng(seed), side, side)
    truth = np.rint(scene.alpha * 255).astype(np.uint8)
    return Crops.stack(scene.image[None], cv2.blur(truth, (9, 9))[None], truth[None], np.full_like(truth, 255)[None])


def test_the_gate_of_an_untrained_network_is_nearly_shut() -> None:
    """Training begins where the remover left off."""
    crops = _crops()
    with torch.no_grad():
        output = EdgeRefiner().eval()(crops.image, crops.alpha)
    assert float(torch.sigmoid(output.gate_logits).max()) < 0.06


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
        alpha = rng.integers(0, 256, (height, width), dtype=np.uint8)
        crops = Crops.stack(image[None], *(alpha[None],) * 3)
        with torch.no_grad():
            output = network(crops.image, crops.alpha)
        expected = (torch.sigmoid(one)[0, 0].numpy() for one in (output.logits, output.gate_logits))
        for result, wanted in zip(refiner.predict(image, alpha.astype(np.float32) / 255), expected, strict=True):
            assert np.ptp(wanted) > 0.01
            np.testing.assert_allclose(result, wanted, atol=1e-4)


def test_a_photo_of_any_size_gets_an_alpha_of_its_size(network: EdgeRefiner, tmp_path: Path) -> None:
    """Working size and full size are the refiner's business."""
    (tmp_path / "refiner.onnx").write_bytes(export_refiner(network))
    image = np.full((131, 77, 3), 90, np.uint8)
    corrected = Refiner(tmp_path / "refiner.onnx").correct(
        np.full((131, 77), 0.5, np.float32), image, "unconditional", 64
    )
    assert corrected.shape == (131, 77) and corrected.dtype == np.float32
    assert corrected.min() >= 0 and corrected.max() <= 1


def test_where_the_network_has_nothing_to_say_no_pixel_changes(tmp_path: Path) -> None:
    """Small corrections are none: what was exactly 0 or 1 stays so, and a sharp outline stays sharp."""
    (tmp_path / "refiner.onnx").write_bytes(export_refiner(EdgeRefiner().eval()))
    alpha = np.zeros((96, 96), np.float32)
    alpha[20:70, 20:70] = 1
    image = np.repeat((alpha[..., None] * 200).astype(np.uint8), 3, axis=2)
    refiner = Refiner(tmp_path / "refiner.onnx")
    np.testing.assert_array_equal(refiner.correct(alpha, image, "everywhere", 96), alpha)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A file that is no refiner says so, and how to make one."""
    (tmp_path / "other.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match="train_refiner"):
        Refiner(tmp_path / "other.onnx")


def test_working_sizes_fit_the_network() -> None:
    """Multiples of sixteen from 32 on, about as many pixels as asked for; a larger photo grows by less than a step."""
    assert work_size(3000, 4000, 480) == (416, 560)
    for height, width in ((1, 5000), (100, 120), (4000, 3000)):
        rows, columns = work_size(height, width, 480)
        assert rows % 16 == columns % 16 == 0
        assert 32 <= rows < max(33, height + 16) and 32 <= columns < max(33, width + 16)


def test_crops_have_the_size_that_was_asked_for_and_belong_together() -> None:
    """Image, alpha, target and weight are cut at one place, whatever the example's size."""
    scene = draw_scene("ordinary", np.random.default_rng(3), 200, 260)
    truth = np.rint(scene.alpha * 255).astype(np.uint8)
    example = Example(scene.image, cv2.blur(truth, (3, 3)), truth, 255 - truth)
    for seed in range(4):
        image, alpha, known, weight = crop(example, np.random.default_rng(seed), RefinerSettings(crop_px=128))
        assert image.shape == (128, 128, 3) and alpha.shape == known.shape == (128, 128)
        assert np.abs(alpha / 255 - known / 255).mean() < 0.05
        np.testing.assert_allclose(weight, 255 - known, atol=2)


def test_a_target_without_weight_changes_no_loss() -> None:
    """Where a hand-drawn mask is not reliable, the loss does not depend on it."""
    crops = _crops(4)
    nothing = torch.zeros_like(crops.weight)
    nothing[..., 32:] = 1
    other = crops.target.clone()
    other[..., :20] = 1 - other[..., :20]
    network = EdgeRefiner().eval()
    output = network(crops.image, crops.alpha)
    losses = [refiner_loss(output, Crops(crops.image, crops.alpha, truth, nothing)) for truth in (crops.target, other)]
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-5)


def test_weights_are_kept_and_read_again(network: EdgeRefiner, tmp_path: Path) -> None:
    """A training goes on from a file; a file of something else is refused."""
    save_refiner(network, tmp_path / "refiner.safetensors")
    again = new_refiner(1, tmp_path / "refiner.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), again.parameters(), strict=True))
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="other"):
        new_refiner(1, tmp_path / "other.safetensors")


def test_weights_of_the_first_release_are_read(network: EdgeRefiner, tmp_path: Path) -> None:
    """Its files call the stages look1 to look4 and draw3 to draw1."""
    old = {
        name.replace("encoder", "look").replace("decoder", "draw"): one for name, one in network.state_dict().items()
    }
    assert not old.keys() & {name for name in network.state_dict() if not name.startswith("head")}
    save_file(old, tmp_path / "old.safetensors")
    again = new_refiner(1, tmp_path / "old.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), again.parameters(), strict=True))


def test_examples_of_the_first_release_are_read(tmp_path: Path) -> None:
    """Its files call the target truth and the weight trust."""
    plane = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.savez(tmp_path / "old.npz", image=np.dstack([plane] * 3), alpha=plane, truth=plane + 1, trust=plane + 2)
    example = Example.load(tmp_path / "old.npz")
    assert (example.target == plane + 1).all() and (example.weight == plane + 2).all()


def test_training_lowers_the_loss() -> None:
    """Forty steps on one picture draw it better than it was given."""
    crops = _crops(5)
    reports: list[Progress] = []
    settings = RefinerSettings(steps=40, batch_size=1, lr=1e-2, ema_decay=0.5, report_every_steps=40)
    trained = train_refiner(new_refiner(0), itertools.repeat(crops), settings, reports.append)
    before = refiner_loss(EdgeRefiner().eval()(crops.image, crops.alpha), crops)
    after = refiner_loss(trained(crops.image, crops.alpha), crops)
    assert float(after.detach()) < 0.8 * float(before.detach())
    assert [report.step for report in reports] == [40]


def test_threads_share_the_refiner_of_the_package() -> None:
    """It is there, small, and gives every thread what it gives one."""
    assert WEIGHTS.stat().st_size < 2_000_000
    scene = draw_scene("fine_detail", np.random.default_rng(1), 160, 160)
    alpha = cv2.blur(scene.alpha, (9, 9))
    expected = built_in_refiner().correct(alpha, scene.image, "edges")
    assert not np.array_equal(expected, alpha)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: built_in_refiner().correct(alpha, scene.image, "edges"), range(8)))
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_far_from_the_outline_edges_are_no_concern(network: EdgeRefiner, tmp_path: Path) -> None:
    """A refiner that would change everything changes only the surroundings of the outline."""
    (tmp_path / "refiner.onnx").write_bytes(export_refiner(network))
    alpha = np.zeros((160, 160), np.float32)
    alpha[:, 80:] = 1
    image = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    refiner = Refiner(tmp_path / "refiner.onnx")
    changed = np.flatnonzero((refiner.correct(alpha, image, "edges", 160) != alpha).any(axis=0))
    assert changed.size and changed.min() >= 80 - 25 and changed.max() <= 80 + 25
    assert (refiner.correct(alpha, image, "everywhere", 160) != alpha)[:, :40].any()


@pytest.mark.parametrize(("height", "width"), [(51, 21), (3, 2), (900, 9)])
def test_narrow_pictures_are_corrected_the_same_each_time(height: int, width: int) -> None:
    """OpenCV's network gives whatever its memory held before where a side is too short; no picture is that narrow."""
    random = np.random.default_rng(0)
    alpha = random.random((height, width)).astype(np.float32)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    found = []
    for _ in range(4):
        refiner = Refiner()
        found.append(refiner.correct(alpha, image, "unconditional"))
        refiner.correct(np.ones((128, 96), np.float32), np.zeros((128, 96, 3), np.uint8), "unconditional")
        found.append(refiner.correct(alpha, image, "unconditional"))
    assert np.ptp(found, axis=0).max() == 0
