"""What is captured as a CUDA graph computes the same when it is replayed; here operations are recorded instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cutray.config import LossSettings, OptimSettings  # noqa: E402
from cutray.engines.pytorch import PyTorchEngine, _compile_blocks  # noqa: E402
from cutray.models.u2net import ConvNormRelu, U2Net  # noqa: E402
from cutray.training import step as step_module  # noqa: E402
from cutray.training.averaging import ModelEma  # noqa: E402
from cutray.training.losses import deep_supervision_loss  # noqa: E402
from cutray.training.step import TrainStep  # noqa: E402
from tests.recorded_graph import record_graphs  # noqa: E402

CPU = torch.device("cpu")
STEPS = 9
SETTINGS = OptimSettings(lr=1e-3, ema_decay=0.9, accumulate=2)


class Small(torch.nn.Module):
    """A network with as many outputs as large ones have."""

    def __init__(self) -> None:
        """Draw the same weights each time."""
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = ConvNormRelu(3, 8), torch.nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Any) -> tuple[Any, ...]:
        """Return logits at full size, and six times at half size."""
        inner = self.first(x)
        side = self.last(torch.nn.functional.avg_pool2d(inner, 2))
        return self.last(inner), *(side * number for number in range(1, 7))


def _losses(*, capture: bool) -> tuple[list[float], dict[str, Any], TrainStep]:
    """Train for some steps with a rate that changes; a step in the middle has no finite gradient."""
    network = Small().to(memory_format=torch.channels_last)
    ema = ModelEma(network, SETTINGS.ema_decay)

    def loss(image: Any, alpha: Any) -> Any:
        return deep_supervision_loss(network(image), alpha, LossSettings())

    step = TrainStep(network, ema, loss, SETTINGS, CPU, capture=capture)
    dice = torch.Generator().manual_seed(1)
    losses = []
    for number in range(1, STEPS + 1):
        image = torch.randn(4, 3, 16, 16, generator=dice).contiguous(memory_format=torch.channels_last)
        alpha = (torch.rand(4, 1, 16, 16, generator=dice) > 0.5).float()
        if number == 6:
            image[0, 0, 0, 0] = float("nan")
        step.run(image, alpha, 1e-3 / number, number)
        losses.append(step.last_loss())
    return losses, {**network.state_dict(), **{f"ema.{n}": v for n, v in ema.network.state_dict().items()}}, step


def test_a_captured_step_learns_as_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate, average and a step that is left out follow what is told later; nothing in a step waits for the device."""
    plain, wanted, _ = _losses(capture=True)  # on a processor, nothing is captured
    graphs = record_graphs(monkeypatch)
    monkeypatch.setattr(step_module, "_captures_on", lambda device: device == CPU)
    losses, found, step = _losses(capture=True)
    assert len(graphs) == 1
    assert len(graphs[0].calls) > 100
    usual = [number for number in range(STEPS) if number != 5]
    assert [losses[n] for n in usual] == pytest.approx([plain[n] for n in usual], abs=1e-5)
    assert np.isnan(losses[5]) and np.isnan(plain[5])
    for name, value in wanted.items():
        # Statistics of the batch that was not finite are not finite. A bias before a batch normalisation has no
        # gradient but rounding, which Adam makes as large as any other.
        if "running" not in name and "conv_s1.bias" not in name:
            assert torch.allclose(found[name].float(), value.float(), atol=1e-5), name
    step.check()


def test_a_captured_engine_answers_each_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size has its graph; answers are those of an engine without, also after another size and from threads."""
    record = record_graphs(monkeypatch)
    size = {"device": "cpu", "precision": "fp32", "threads": 1}
    plain, engine = (PyTorchEngine(Small, 16, **size, keep_photos=True) for _ in range(2))  # type: ignore[arg-type]
    engine._graphs, engine._batch = {}, 4
    dice = np.random.default_rng(0)
    for count in (1, 3, 1, 4, 3, 6):
        views = dice.standard_normal((count, 3, 16, 16)).astype(np.float32)
        np.testing.assert_allclose(engine.infer(views), plain.infer(views), atol=1e-6)
        np.testing.assert_allclose(engine.infer_resident([torch.from_numpy(views)], 4), plain.infer(views), atol=1e-6)
    assert sorted(engine._graphs) == [1, 2, 3, 4]
    assert len(record) == 4


def test_blocks_that_are_alike_compile_once() -> None:
    """A compiler is given a block as one piece, and no second time for one with the same shapes or another picture."""
    from torch._dynamo.testing import CompileCounter

    torch.manual_seed(0)
    whole = U2Net("u2netp").eval()
    network = torch.nn.Sequential(whole.stage5, whole.stage6)
    with torch.inference_mode():
        maps = torch.randn(1, 64, 8, 8)
        wanted = network(maps)
        counter = CompileCounter()
        _compile_blocks(network, backend=counter)
        assert torch.allclose(network(maps), wanted, atol=1e-5)
        assert counter.frame_count == 1
        network(-maps)
    assert counter.frame_count == 1
