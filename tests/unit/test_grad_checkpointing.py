"""Activation checkpointing changes memory and time of a training step, and nothing of its result."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cutray.config import LossSettings, OptimSettings, TrainSettings, parse_settings  # noqa: E402
from cutray.errors import ConfigError  # noqa: E402
from cutray.models.u2net import U2Net  # noqa: E402
from cutray.training.averaging import ModelEma  # noqa: E402
from cutray.training.losses import deep_supervision_loss  # noqa: E402
from cutray.training.network import set_frozen  # noqa: E402
from cutray.training.step import TrainStep  # noqa: E402

SIDE_PX, STEPS = 64, 3


def _network(*, checkpointing: bool, freeze: str = "none") -> U2Net:
    torch.manual_seed(0)
    network = U2Net("u2netp").train()
    set_frozen(network, freeze)
    network.set_grad_checkpointing(checkpointing)
    return network


def _train(network: U2Net) -> list[float]:
    """Train some steps; return their losses."""
    dice = torch.Generator().manual_seed(1)
    step = TrainStep(
        network,
        ModelEma(network, 0.9),
        lambda image, alpha: deep_supervision_loss(network(image), alpha, LossSettings()),
        OptimSettings(),
        torch.device("cpu"),
    )
    losses = []
    for number in range(1, STEPS + 1):
        image = torch.randn(2, 3, SIDE_PX, SIDE_PX, generator=dice)
        alpha = (torch.rand(2, 1, SIDE_PX, SIDE_PX, generator=dice) > 0.5).float()
        step.run(image, alpha, 1e-3, number)
        losses.append(step.last_loss())
    return losses


@pytest.mark.parametrize("freeze", ["none", "encoder"])
def test_losses_weights_and_statistics_are_the_same(freeze: str) -> None:
    """The second pass through a block must not move the running statistics of its normalisations a second time."""
    plain, checkpointed = (_network(checkpointing=on, freeze=freeze) for on in (False, True))
    assert _train(checkpointed) == pytest.approx(_train(plain), abs=1e-5)
    kept = checkpointed.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.allclose(value.double(), kept[name].double(), atol=1e-5), name


def test_far_fewer_bytes_wait_for_the_backward_pass() -> None:
    """What autograd keeps between the passes shrinks to less than a third."""

    def kept_bytes(network: U2Net) -> int:
        kept: dict[int, int] = {}

        def pack(tensor: Any) -> Any:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
        weights = {one.untyped_storage().data_ptr() for one in network.parameters()}
        assert outputs[0].requires_grad
        return sum(size for place, size in kept.items() if place not in weights)

    plain, checkpointed = (kept_bytes(_network(checkpointing=on)) for on in (False, True))
    assert 0 < checkpointed < plain / 3


def test_it_does_not_go_with_compilation() -> None:
    """Both at once are refused before anything is started."""
    with pytest.raises(ConfigError, match="do not go together"):
        parse_settings(TrainSettings, {"grad_checkpointing": True, "compile": True})
