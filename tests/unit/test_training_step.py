"""The step that does not wait for the device does what a plain one does."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from cutray.config import LossSettings, OptimSettings  # noqa: E402
from cutray.console.run import run  # noqa: E402
from cutray.errors import TrainingError  # noqa: E402
from cutray.training.averaging import ModelEma  # noqa: E402
from cutray.training.losses import map_loss  # noqa: E402
from cutray.training.step import TrainStep  # noqa: E402
from pipelines.bench.training_loop import training_loop  # noqa: E402

CPU = torch.device("cpu")
STEPS, RATE = 8, 1e-3


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    dice = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 3, 16, 16, generator=dice), (torch.rand(4, 1, 16, 16, generator=dice) > 0.5).float())
        for _ in range(STEPS)
    ]


def _loss(network: torch.nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = map_loss(network(image), alpha, LossSettings(), with_ssim=True)
    return loss


def _network() -> torch.nn.Module:
    """Return a small network with what the large ones have: convolutions, and statistics of batches."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        # A bias before batch normalization has no gradient but rounding, which Adam makes as large as any other.
        torch.nn.Conv2d(3, 8, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 1, 3, padding=1),
    )
    return layers.to(memory_format=torch.channels_last)


def _plain_run(network: torch.nn.Module, settings: OptimSettings) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train as a textbook does: look at every loss, decide on the processor."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, foreach=False, fused=False
    )
    mean = {name: value.clone() for name, value in network.state_dict().items()}
    losses = []
    for number, (image, alpha) in enumerate(_batches(), 1):
        optimizer.zero_grad()
        total = 0.0
        for photos, truth in zip(image.chunk(settings.accumulate), alpha.chunk(settings.accumulate), strict=True):
            loss = _loss(network, photos, truth)
            (loss / settings.accumulate).backward()
            total += float(loss.detach()) / settings.accumulate
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm, foreach=False)
        optimizer.step()
        decay = min(settings.ema_decay, (1 + number) / (10 + number))
        for name, value in network.state_dict().items():
            mean[name] = torch.lerp(value, mean[name], decay) if value.is_floating_point() else value.clone()
        losses.append(total)
    return losses, mean


@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_are_those_of_a_plain_loop(accumulate: int) -> None:
    """Step by step the losses agree to 1e-5, and so does the average that is kept at the end."""
    settings = OptimSettings(lr=RATE, accumulate=accumulate, ema_decay=0.9)
    network, plain = _network(), _network()
    wanted, mean = _plain_run(plain, settings)
    ema = ModelEma(network, settings.ema_decay)
    step = TrainStep(network, ema, lambda image, alpha: _loss(network, image, alpha), settings, CPU)
    losses = []
    for number, (image, alpha) in enumerate(_batches(), 1):
        step.run(image, alpha, RATE, number)
        losses.append(step.last_loss())
    step.check()
    assert losses == pytest.approx(wanted, abs=1e-5)
    assert step.take_mean_loss() == pytest.approx(sum(wanted) / STEPS, abs=1e-5)
    for name, value in ema.network.state_dict().items():
        assert torch.allclose(value.float(), mean[name].float(), atol=1e-5), name


def test_a_real_network_learns_as_in_a_plain_loop(capsys: pytest.CaptureFixture[str]) -> None:
    """In double precision, where AdamW does not enlarge the rounding of gradients, u2netp's losses agree, too."""
    assert run(training_loop, ["--side", "64", "--batch", "2", "--steps", "4", "--double"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(facts["loss_differences"]) == 4
    assert max(facts["loss_differences"]) < 1e-5
    assert facts["ratio"] > 0


def _breakable() -> tuple[torch.nn.Module, TrainStep]:
    """A small layer whose loss is what the picture holds: infinity makes a gradient that is not finite."""
    network = torch.nn.Linear(2, 1)
    step = TrainStep(
        network,
        ModelEma(network, 0.5),
        lambda image, alpha: (network(image) * alpha).sum(),
        OptimSettings(lr=0.1),
        CPU,
    )
    return network, step


def test_a_step_without_a_finite_gradient_is_left_out() -> None:
    """Weights, average, moments and mean loss stay as they were; the next good step counts again."""
    network, step = _breakable()
    good, bad = torch.ones(1, 2), torch.tensor([[1.0, float("inf")]])
    step.run(good, torch.ones(1, 1), 0.1, 1)
    first = step.last_loss()
    kept = [value.clone() for value in (*network.state_dict().values(), *step._ema.network.state_dict().values())]
    moments = [value.clone() for value in step.optimizer.state[network.weight].values()]
    for _ in range(19):
        step.run(bad, torch.ones(1, 1), 0.1, 2)
    step.check()
    now = [*network.state_dict().values(), *step._ema.network.state_dict().values()]
    assert all(torch.equal(one, two) for one, two in zip(kept, now, strict=True))
    assert all(torch.equal(*pair) for pair in zip(moments, step.optimizer.state[network.weight].values(), strict=True))
    assert step.take_mean_loss() == pytest.approx(first)
    step.run(good, torch.ones(1, 1), 0.1, 3)
    assert not torch.equal(network.weight, kept[0])


def test_a_bad_step_leaves_the_average_whole() -> None:
    """A share of 0 changes nothing, even where the weights are not finite."""
    network = torch.nn.Linear(2, 1)
    ema = ModelEma(network, 0.9)
    kept = ema.network.weight.clone()
    with torch.no_grad():
        network.weight.fill_(float("nan"))
    ema.blend(torch.tensor(0.0))
    assert torch.equal(ema.network.weight, kept)


def test_twenty_bad_steps_in_a_row_end_the_run() -> None:
    """They are noticed at the next look, even if good steps have followed; nineteen are not enough."""
    _, step = _breakable()
    good, bad = torch.ones(1, 2), torch.tensor([[1.0, float("nan")]])
    for image in [bad] * 19 + [good] + [bad] * 20 + [good]:
        step.run(image, torch.ones(1, 1), 0.1, 1)
    with pytest.raises(TrainingError, match="20 steps in a row"):
        step.check()
