"""Loss, normalisation, averaging and schedule of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from cutray.config import LossSettings  # noqa: E402
from cutray.errors import TrainingError  # noqa: E402
from cutray.models.catalog import list_models  # noqa: E402
from cutray.models.u2net import U2Net  # noqa: E402
from cutray.preprocess import prepare  # noqa: E402
from cutray.training.averaging import ModelEma, interpolate_weights  # noqa: E402
from cutray.training.batchnorm import recalibrate  # noqa: E402
from cutray.training.inputs import to_device_batch  # noqa: E402
from cutray.training.losses import deep_supervision_loss, edge_weights, soft_iou_loss, ssim  # noqa: E402
from cutray.training.schedule import lr_factor  # noqa: E402
from cutray.training.teacher import Teacher  # noqa: E402
from cutray.training.transfer import to_device  # noqa: E402

U2NETP = next(spec for spec in list_models() if spec.name == "u2netp")


@pytest.fixture
def truth() -> torch.Tensor:
    truth = torch.zeros(2, 1, 64, 64)
    truth[:, :, 16:48, 20:40] = 1
    return truth


def _maps(truth: torch.Tensor, scale: float) -> list[torch.Tensor]:
    sizes = (64, 64, 32, 16, 8, 4, 2)
    means = [torch.nn.functional.adaptive_avg_pool2d(truth, size).clamp(1e-6, 1 - 1e-6) for size in sizes]
    return [scale * torch.logit(mean) for mean in means]


def test_loss_is_lowest_at_the_truth(truth: torch.Tensor) -> None:
    """The right maps cost next to nothing, doubtful ones more, inverted ones most."""
    right, doubtful, wrong = (
        float(deep_supervision_loss(_maps(truth, scale), truth, LossSettings())) for scale in (1, 0.1, -1)
    )
    assert right < 0.7  # coarse maps of a hard edge keep some entropy
    assert right < doubtful < wrong


def test_soft_truth_is_its_own_optimum() -> None:
    """Half transparent pixels are best met by one half, not by zero or one."""
    truth = torch.full((1, 1, 8, 8), 0.5)
    losses = [
        float(soft_iou_loss(torch.full_like(truth, value), truth, torch.ones_like(truth))) for value in (0.2, 0.5, 0.9)
    ]
    assert losses[1] == pytest.approx(0)
    assert min(losses[0], losses[2]) > 0.2


def test_edges_weigh_more(truth: torch.Tensor) -> None:
    """Pixels beside the outline count, those far from it do not; tiny maps have no edges."""
    weights = edge_weights(truth)
    assert weights[0, 0, 16, 30] > 0.3
    assert weights[0, 0, 0, 63] < 0.05
    assert edge_weights(truth[:, :, :2, :2]).sum() == 0


def test_edges_are_told_by_the_mean_of_a_square() -> None:
    """The mean of rows of means is that of the square around a pixel, also where it is cut by the border."""
    truth = torch.rand(1, 1, 48, 40, generator=torch.Generator().manual_seed(0))
    square = torch.nn.functional.avg_pool2d(truth, 31, stride=1, padding=15, count_include_pad=False)
    assert torch.allclose(edge_weights(truth), (square - truth).abs(), atol=1e-6)


def test_ssim_is_that_of_its_definition() -> None:
    """It agrees with the formula, computed window by window in NumPy on a small picture."""
    first, second = np.random.default_rng(0).random((2, 20, 16))
    steps = np.arange(-5, 6)
    row = np.exp(-(steps**2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2

    def blurred(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, 5)
        return np.array([[(padded[y : y + 11, x : x + 11] * window).sum() for x in range(16)] for y in range(20)])

    mean1, mean2 = blurred(first), blurred(second)
    var1, var2 = blurred(first**2) - mean1**2, blurred(second**2) - mean2**2
    covariance = blurred(first * second) - mean1 * mean2
    each = (2 * mean1 * mean2 + 1e-4) * (2 * covariance + 9e-4)
    each /= (mean1**2 + mean2**2 + 1e-4) * (var1 + var2 + 9e-4)
    ours = ssim(*(torch.from_numpy(one).float()[None, None] for one in (first, second)))
    assert float(ours) == pytest.approx(each.mean(), abs=1e-5)


def test_ssim_of_equals_is_one(truth: torch.Tensor) -> None:
    """Equal maps have similarity one, unrelated ones next to none."""
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    assert float(ssim(noise, noise)) == pytest.approx(1, abs=1e-5)
    assert float(ssim(noise, 1 - noise)) < 0.1


def test_photos_are_prepared_as_for_inference() -> None:
    """A batch is normalised like a single photo that goes through the remover."""
    image = np.random.default_rng(0).integers(0, 200, (320, 320, 3), np.uint8)
    batch = {"image": image[None], "alpha": np.zeros((1, 320, 320), np.uint8)}
    tensors = to_device_batch(batch, U2NETP, torch.device("cpu"))
    assert np.abs(tensors["image"][0].numpy() - prepare(image, U2NETP)).max() < 1e-5


def test_norms_get_statistics_and_the_function_stays() -> None:
    """With identities replaced by statistics the network computes the same, and nearly so when it trains."""
    torch.manual_seed(1)
    network = U2Net("u2netp").eval()
    inputs = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        before = network(inputs)[0]
        drifted = network.train()(inputs)[0]
        restored = U2Net("u2netp")
        restored.load_state_dict({**network.state_dict(), **_fresh(network)})
        restored.eval()
        wanted = restored(inputs)[0]
        recalibrate(restored, [inputs])
        after, training = restored(inputs)[0], restored.train()(inputs)[0]
    assert before.shape == drifted.shape
    assert torch.allclose(wanted, after, atol=1e-4)
    assert torch.allclose(after, training, atol=0.02 * float(after.std()) + 1e-3)


def _fresh(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Identity statistics, as a folded file has them."""
    return {
        name: torch.zeros_like(value) if name.endswith("running_mean") else torch.ones_like(value)
        for name, value in network.state_dict().items()
        if name.endswith(("running_mean", "running_var"))
    }


def test_a_teacher_shows_its_own_maps_at_any_size(tmp_path: Path) -> None:
    """At its own size they are those that it gives alone; a larger photo is seen at that size, and its map enlarged."""
    torch.manual_seed(2)
    network = U2Net("u2netp").eval()
    save_file(network.state_dict(), tmp_path / "teacher.safetensors")
    (tmp_path / "teacher.toml").write_text("input_size_px = 64\n")
    teacher = Teacher(str(tmp_path / "teacher.safetensors"), U2NETP, torch.device("cpu"))
    photos = torch.rand(2, 3, 64, 64)
    maps = teacher.probs(photos, lambda one, image: one(image))
    with torch.no_grad():
        assert torch.allclose(maps, network(photos)[0].sigmoid(), atol=1e-5)
    assert not maps.requires_grad
    larger = torch.nn.functional.interpolate(photos, 96, mode="bilinear")
    assert teacher.probs(larger, lambda one, image: one(image)).shape == (2, 1, 96, 96)


def test_a_teacher_must_see_photos_as_the_pupil_does(tmp_path: Path) -> None:
    """Other preparation is an error before anything is learned."""
    save_file(U2Net("u2netp").state_dict(), tmp_path / "teacher.safetensors")
    (tmp_path / "teacher.toml").write_text('scale = "255"\n')
    with pytest.raises(TrainingError, match="same family"):
        Teacher(str(tmp_path / "teacher.safetensors"), U2NETP, torch.device("cpu"))


def test_a_part_of_the_start_is_kept() -> None:
    """The mixture lies between both, on a straight line; the network itself stays as it is."""
    network = torch.nn.BatchNorm1d(2)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network.weight.fill_(5.0)
        network.num_batches_tracked.fill_(7)
    between = interpolate_weights(network, start, 0.75).state_dict()
    assert between["weight"].tolist() == [2.0, 2.0]
    assert between["num_batches_tracked"] == 7
    assert network.weight.tolist() == [5.0, 5.0]
    assert interpolate_weights(network, start, 0.0).state_dict()["weight"].tolist() == [5.0, 5.0]


def test_average_follows_the_weights() -> None:
    """Early averages follow at once; later ones move by one part in a thousand; counters are copied."""
    network = torch.nn.BatchNorm1d(2)
    average = ModelEma(network, 0.999)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.num_batches_tracked.fill_(5)
    average.update(1)
    early = float(average.network.weight[0])
    assert 2.5 < early < 3
    with torch.no_grad():
        network.weight.fill_(0.0)
    average.update(100_000)
    assert float(average.network.weight[0]) == pytest.approx(early * 0.999)
    assert int(average.network.num_batches_tracked) == 5


def test_one_batch_is_under_way_while_another_is_in_use() -> None:
    """Batches arrive in order and whole, and only one more than is in use has been asked for."""
    asked: list[int] = []

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for number in range(4):
            asked.append(number)
            yield {"image": np.full((2, 3), number, np.uint8)}

    for number, batch in enumerate(to_device(batches(), torch.device("cpu"))):
        assert batch["image"].tolist() == [[number] * 3] * 2
        assert len(asked) == min(number + 2, 4)
    assert number == 3
    assert list(to_device([], torch.device("cpu"))) == []


def test_rate_rises_and_falls() -> None:
    """The rate begins at zero, is highest after the warm-up, and ends at zero."""
    assert [lr_factor(share, 0.1) for share in (0.0, 0.05, 0.1, 1.0)] == pytest.approx([0, 0.5, 1, 0])
    assert lr_factor(0.0, 0.0) == 1
    assert lr_factor(0.3, 0.1) > lr_factor(0.6, 0.1)
