"""U²-Net's structure, and weights that come back from every kind of file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cutray.errors import WeightsError

torch = pytest.importorskip("torch")
from cutray.models.u2net import U2Net, load_u2net, resize_like  # noqa: E402


def _lively(architecture: str = "u2netp") -> U2Net:
    """Return a network whose batch normalisations have statistics of their own."""
    torch.manual_seed(0)
    network = U2Net(architecture)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def _write_folded_onnx(network: U2Net, path: Path) -> None:
    """Write the convolutions, with the batch normalisations multiplied in, as an exporter does."""
    onnx = pytest.importorskip("onnx")
    modules = dict(network.named_modules())
    nodes, stored = [], []
    for name, conv in modules.items():
        if not isinstance(conv, torch.nn.Conv2d):
            continue
        weight, bias = conv.weight.detach().double(), conv.bias.detach().double()
        if norm := modules.get(name.replace("conv_s1", "bn_s1")) if name.endswith("conv_s1") else None:
            gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weight = weight * gain[:, None, None, None]
            bias = (bias - norm.running_mean) * gain + norm.bias.detach()
        for key, value in ((f"{len(nodes)}.w", weight), (f"{len(nodes)}.b", bias)):
            stored.append(onnx.numpy_helper.from_array(value.float().numpy(), key))
        inputs = [f"x{len(nodes)}", f"{len(nodes)}.w", f"{len(nodes)}.b"]
        nodes.append(onnx.helper.make_node("Conv", inputs, [f"x{len(nodes) + 1}"], dilations=list(conv.dilation)))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "u", [value("x0", 1, None)], [value(f"x{len(nodes)}", 1, None)], stored)
    onnx.save(onnx.helper.make_model(graph), path)


@pytest.mark.parametrize(
    ("architecture", "parameters"), [("u2net", 44_009_869), ("u2netp", 1_131_181), ("isnet", 44_046_790)]
)
def test_parameter_counts(architecture: str, parameters: int) -> None:
    """The networks have exactly as many parameters as the published ones."""
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in U2Net(architecture).parameters()) == parameters


def test_published_names() -> None:
    """Parameters carry the published names, so that the published files load."""
    with torch.device("meta"):
        names = set(U2Net("u2net").state_dict())
    assert {
        "stage1.rebnconvin.conv_s1.weight",
        "stage1.rebnconv7.bn_s1.running_var",
        "stage1.rebnconv6d.conv_s1.bias",
        "stage6.rebnconv3d.conv_s1.weight",
        "stage5d.rebnconv4.bn_s1.num_batches_tracked",
        "stage1d.rebnconv1d.conv_s1.weight",
        "side1.weight",
        "side6.bias",
        "outconv.weight",
    } <= names
    assert "stage5.rebnconv5.conv_s1.weight" not in names
    assert len(names) == 112 * 7 + 7 * 2


def test_logits_at_every_level() -> None:
    """The fused map has the picture's size, and each level's map half the one above, rounded up, for odd sizes too."""
    with torch.inference_mode():
        maps = _lively()(torch.randn(1, 3, 75, 100))
    sizes = [(75, 100), (75, 100), (38, 50), (19, 25), (10, 13), (5, 7), (3, 4)]
    assert [tuple(logits.shape) for logits in maps] == [(1, 1, *size) for size in sizes]
    assert min(float(logits.min()) for logits in maps) < 0


def test_a_network_with_a_stem() -> None:
    """IS-Net sees half the picture's size; its finest map is the answer, brought back to that size."""
    with torch.inference_mode():
        maps = _lively("isnet")(torch.randn(1, 3, 75, 100))
    sizes = [(75, 100), (38, 50), (19, 25), (10, 13), (5, 7), (3, 4), (2, 2)]
    assert [tuple(logits.shape) for logits in maps] == [(1, 1, *size) for size in sizes]
    np.testing.assert_array_equal(maps[0], resize_like(maps[1], maps[0]))


@pytest.mark.parametrize(
    ("suffix", "architecture"),
    [
        (".pth", "u2netp"),
        (".safetensors", "u2netp"),
        (".onnx", "u2netp"),
        (".safetensors", "isnet"),
        (".onnx", "isnet"),
    ],
)
def test_weights_come_back(tmp_path: Path, suffix: str, architecture: str) -> None:
    """A network read from each kind of file computes what the one written to it did."""
    network, path = _lively(architecture), tmp_path / f"own{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    elif suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(network.state_dict(), path)
    else:
        _write_folded_onnx(network, path)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, found = network(images)[0], load_u2net(path)(images)[0]
    assert expected.std() > 1e-4
    np.testing.assert_allclose(torch.sigmoid(found), torch.sigmoid(expected), atol=1e-5)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    """A .pth file that would run a command when read is refused, and the command does not run."""

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"stage1.rebnconv1.conv_s1.weight": Attack()}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"bad\.pth"):
        load_u2net(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    """A file of other bytes is an error of ours."""
    (tmp_path / f"bad{suffix}").write_bytes(b"these are not weights")
    with pytest.raises(WeightsError):
        load_u2net(tmp_path / f"bad{suffix}")


def test_other_networks(tmp_path: Path) -> None:
    """Weights with a missing layer, or none of ours, name what does not fit."""
    state = _lively().state_dict()
    del state["side3.bias"]
    torch.save(state, tmp_path / "part.pth")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"side3\.bias"):
        load_u2net(tmp_path / "part.pth")
    with pytest.raises(WeightsError, match="neither"):
        load_u2net(tmp_path / "other.pth")
