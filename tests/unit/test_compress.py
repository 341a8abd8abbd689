"""`python -m pipelines.compress`: fewer operations, nearly the same answers, in a file that every engine runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from cutray.engines.mnn import MnnEngine  # noqa: E402
from cutray.engines.onnx_runtime import OnnxRuntimeEngine  # noqa: E402
from cutray.engines.openvino import OpenVinoEngine  # noqa: E402
from cutray.errors import ConfigError  # noqa: E402
from cutray.models.catalog import describe_file  # noqa: E402
from cutray.models.export import export_onnx, round_to_eight_bits, store_in_eight_bits  # noqa: E402
from cutray.models.layers import ConvNormRelu, LowRankConv  # noqa: E402
from cutray.models.u2net import U2Net, load_u2net  # noqa: E402
from pipelines.compress.cli import compress  # noqa: E402
from pipelines.compress.layers import Layer, fold_norm, list_layers  # noqa: E402
from pipelines.compress.ranks import Ranks, choose_ranks, count_operations  # noqa: E402
from pipelines.compress.reconstruction import reconstruct  # noqa: E402
from pipelines.compress.responses import Responses, measure_responses, measure_weights  # noqa: E402
from tests.scenes import write_pairs  # noqa: E402

SIDE_PX = 64
Compressed = Callable[[float], tuple[Ranks, U2Net]]


def _ignore(_: int) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def network() -> U2Net:
    """Return a small network with random weights and statistics."""
    torch.manual_seed(0)
    made = U2Net("u2netp")
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


@pytest.fixture(scope="module")
def photos() -> list[torch.Tensor]:
    """Return smooth pictures."""
    torch.manual_seed(1)
    coarse = torch.randn(10, 1, 3, 8, 8)
    return [torch.nn.functional.interpolate(one, size=SIDE_PX, mode="bilinear") for one in coarse]


@pytest.fixture(scope="module")
def layers(network: U2Net) -> list[Layer]:
    """Return the network's layers."""
    return list_layers(network, SIDE_PX)


@pytest.fixture(scope="module")
def responses(network: U2Net, layers: list[Layer], photos: list[torch.Tensor]) -> dict[str, Responses]:
    """Return what the layers answer."""
    return measure_responses(network, layers, photos[:6], _ignore)


@pytest.fixture(scope="module")
def compressed(
    network: U2Net, layers: list[Layer], responses: dict[str, Responses], photos: list[torch.Tensor]
) -> Compressed:
    """Return a function that makes a network with a share of the operations."""
    importances = measure_weights(network, layers[:4], responses, photos[:1], _ignore)
    before = sum(layer.full_operations() for layer in layers)

    def make(share: float) -> tuple[Ranks, U2Net]:
        ranks = choose_ranks(layers, responses, importances, share * before)
        return ranks, reconstruct(network, layers, responses, ranks, photos[:5], _ignore)

    return cache(make)


def test_layers_are_those_of_the_network(network: U2Net, layers: list[Layer]) -> None:
    """Each block's convolutions are there, with the normalisation folded in, and know what comes from below."""
    convolutions = {name for name, module in network.named_modules() if isinstance(module, ConvNormRelu)}
    assert {layer.name for layer in layers} == convolutions
    found = {layer.name: layer for layer in layers}
    assert (found["stage3d.rebnconvin"].channels_below, found["stage3d.rebnconvin"].side_px) == (64, 16)
    # The finest two levels stay as they are.
    assert found["stage1d.rebnconvin"].channels_below == found["stage2d.rebnconvin"].channels_below == 0
    # The lowest two levels of a block share a grid.
    assert found["stage1.rebnconv6d"].channels_below == 0
    assert found["stage5d.rebnconvin"].channels_below == 64 and found["stage5d.rebnconv1d"].channels_below == 0
    module = network.get_submodule("stage1.rebnconvin")
    x = torch.randn(1, 3, 8, 8)
    weight, bias = fold_norm(module)
    with torch.no_grad():
        expected = module(x)
    torch.testing.assert_close(torch.nn.functional.conv2d(x, weight, bias, padding=1).relu(), expected)


def test_operations_keep_within_the_limit(layers: list[Layer], compressed: Compressed) -> None:
    """What is asked for is reached, and little more is taken away."""
    before = sum(layer.full_operations() for layer in layers)
    for share in (0.75, 0.5):
        ranks, _ = compressed(share)
        assert 0.9 * share < count_operations(layers, ranks) / before <= share


def test_answers_come_near_those_of_the_network(
    network: U2Net, photos: list[torch.Tensor], compressed: Compressed
) -> None:
    """On photos that nothing was fitted to, the maps differ little, and less with more operations."""
    with torch.no_grad():
        expected = torch.cat([network(photo)[0].sigmoid() for photo in photos[8:]])
        spread = float(expected.std())
        errors = []
        for share in (0.75, 0.5):
            _, lean = compressed(share)
            errors.append(float((torch.cat([lean(one)[0].sigmoid() for one in photos[8:]]) - expected).abs().mean()))
    assert errors[0] < errors[1] < 0.5 * spread


def test_coarser_kernels_answer_as_the_full_ones() -> None:
    """Where what is enlarged is a plane, a convolution on the coarser grid gives the same."""
    from pipelines.compress.reconstruction import _on_coarser_grid

    torch.manual_seed(0)
    weight = torch.randn(4, 2, 3, 3)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    below = torch.stack([rows + 2 * columns, 3 * columns - rows])[None]
    full, coarse = LowRankConv(3, 4, None), LowRankConv(3, 4, None, channels_below=2)
    full.conv.weight.data[:, :2], full.conv.bias.data = weight, torch.zeros(4)
    coarse.conv_below.weight.data, coarse.conv.bias.data = _on_coarser_grid(weight), torch.zeros(4)
    x = torch.zeros(1, 1, 32, 32)
    with torch.no_grad():
        inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
        torch.testing.assert_close(coarse(x, below)[inner], full(x, below)[inner], rtol=1e-4, atol=1e-4)


def test_file_runs_in_every_engine_and_comes_back(compressed: Compressed, tmp_path: Path) -> None:
    """The file holds a quarter of the bytes; all engines answer as PyTorch does, and so does what is read from it."""
    _, lean = compressed(0.4)
    plain = export_onnx(lean, SIDE_PX).data
    path = tmp_path / "lean.onnx"
    path.write_bytes(store_in_eight_bits(plain))
    assert path.stat().st_size < 0.5 * len(plain)
    again = load_u2net(path)
    x = np.random.default_rng(0).standard_normal((1, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    with torch.no_grad():
        expected = lean(torch.from_numpy(x))[0].sigmoid().numpy()[0]
        np.testing.assert_allclose(again(torch.from_numpy(x))[0].sigmoid().numpy()[0], expected, atol=1e-4)
    engines = [
        OpenVinoEngine(path, SIDE_PX, precision="fp32", threads=1, streams=1),
        OnnxRuntimeEngine(path, SIDE_PX, device="cpu", precision="fp32", threads=1, cache_dir=None),
        MnnEngine(path, SIDE_PX, threads=1, sha256="", cache_dir=None),
    ]
    for engine in engines:
        np.testing.assert_allclose(engine.infer(x)[0], expected[0], atol=1e-4, err_msg=engine.name)


def test_rounding_keeps_what_is_rounded_already() -> None:
    """Weights that were rounded once come out of a second rounding as they are."""
    weight = np.random.default_rng(0).standard_normal((5, 4, 3, 3)).astype(np.float32)
    codes, steps = round_to_eight_bits(weight)
    once = codes.astype(np.float32) * steps[:, None, None, None]
    assert np.abs(once - weight).max() <= steps.max() / 2 * 1.001
    np.testing.assert_array_equal(round_to_eight_bits(once)[0], codes)


def test_command_writes_the_file_and_its_description(network: U2Net, tmp_path: Path) -> None:
    """The result can be named as a model: the side of its input is known."""
    weights = tmp_path / "small.onnx"
    photos = write_pairs(tmp_path, 12, side_px=SIDE_PX) / "images"
    weights.write_bytes(export_onnx(network, SIDE_PX).data)
    words = ["-m", str(weights), "--images", str(photos), "--side", str(SIDE_PX), "--operations", "0.6", "--count", "8"]
    output = tmp_path / "lean.onnx"
    done = CliRunner().invoke(compress, [*words, "-o", str(output)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.output.strip().splitlines()[-1])
    assert facts["bytes"] == output.stat().st_size and facts["operations"] <= 0.6 * facts["operations_before"]
    assert describe_file(output).input_size_px == SIDE_PX
    with pytest.raises(Exception, match=r"lean\.onnx"):  # what is there is not replaced unasked
        CliRunner().invoke(compress, [*words, "-o", str(output)], catch_exceptions=False)


def test_isnet_is_refused(tmp_path: Path) -> None:
    """Its stem is no block."""
    weights = tmp_path / "isnet.pth"
    torch.save(U2Net("isnet").state_dict(), weights)
    write_pairs(tmp_path, 1, side_px=SIDE_PX)
    words = ["-m", str(weights), "--images", str(tmp_path / "images"), "-o", str(tmp_path / "lean.onnx")]
    with pytest.raises(ConfigError, match="IS-Net"):
        CliRunner().invoke(compress, words, catch_exceptions=False)
