"""U²-Net, U²-Net-p and IS-Net in PyTorch, with the parameter names of the published weights.

Source: Qin et al., "U²-Net: Going deeper with nested U-structure for salient object detection", Pattern
Recognition 106 (2020), figures 2 and 5, table 1; Qin et al., "Highly accurate dichotomous image segmentation",
ECCV 2022, section 4 (IS-Net).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cutray.errors import WeightsError
from cutray.models.layers import ConvNormRelu, LowRankConv, halve, resize_like
from cutray.models.state_dicts import read_convolutions, read_graph, read_low_rank_weights, read_state_dict

# Per stage: levels of its U (0: the flat one of four levels, with dilation), channels in, in the middle, and out.
_Stage = tuple[int, int, int, int]
_DEPTH = 6


@dataclass(frozen=True, slots=True)
class _Structure:
    """What tells the networks of the family apart.

    Attributes:
        stages: The U-blocks by their published names, in the order in which they run.
        stem: Channels of a first convolution with stride 2; 0 if the first block sees the picture itself.
        fuses: Whether a last convolution makes one map of all; without it the finest map is the answer.
    """

    stages: dict[str, _Stage]
    stem: int = 0
    fuses: bool = True


_LEVELS = {"stage1": 7, "stage2": 6, "stage3": 5, "stage4": 4, "stage5": 0, "stage6": 0}
_LARGE: dict[str, _Stage] = {
    "stage1": (7, 3, 32, 64),
    "stage2": (6, 64, 32, 128),
    "stage3": (5, 128, 64, 256),
    "stage4": (4, 256, 128, 512),
    "stage5": (0, 512, 256, 512),
    "stage6": (0, 512, 256, 512),
    "stage5d": (0, 1024, 256, 512),
    "stage4d": (4, 1024, 128, 256),
    "stage3d": (5, 512, 64, 128),
    "stage2d": (6, 256, 32, 64),
    "stage1d": (7, 128, 16, 64),
}
_SMALL: dict[str, _Stage] = {
    **{stage: (levels, 3 if stage == "stage1" else 64, 16, 64) for stage, levels in _LEVELS.items()},
    **{f"{stage}d": (_LEVELS[stage], 128, 16, 64) for stage in reversed(list(_LEVELS)[:5])},
}
_STRUCTURES: dict[str, _Structure] = {
    "u2net": _Structure(_LARGE),
    "u2netp": _Structure(_SMALL),
    "isnet": _Structure(_LARGE | {"stage1": (7, 64, 32, 64)}, stem=64, fuses=False),
}


class ResidualUBlock(nn.Module):
    """A small U-Net with its input added to its output: the paper's RSU-L, or RSU-4F if ``levels`` is 0."""

    def __init__(self, levels: int, channels_in: int, channels_mid: int, channels_out: int) -> None:
        """Make the convolutions, level by level, under their published names."""
        super().__init__()
        self.is_flat = levels == 0
        self.levels = levels or 4
        self.rebnconvin = ConvNormRelu(channels_in, channels_out)
        for level in range(1, self.levels + 1):
            dilation = 2 ** (level - 1) if self.is_flat else 2 if level == self.levels else 1
            start = channels_out if level == 1 else channels_mid
            self.add_module(f"rebnconv{level}", ConvNormRelu(start, channels_mid, dilation))
        for level in range(self.levels - 1, 0, -1):
            dilation = 2 ** (level - 1) if self.is_flat else 1
            end = channels_out if level == 1 else channels_mid
            self.add_module(f"rebnconv{level}d", ConvNormRelu(2 * channels_mid, end, dilation))

    def forward(self, x: Tensor, below: Tensor | None = None) -> Tensor:
        """Map features to (N, channels_out, H, W).

        Args:
            x: (N, C, H, W).
            below: (N, channels_in - C, h, w), features of the level below, which are enlarged and come first.
        """
        x = self.rebnconvin(x, below)
        return x + self._level(1, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        """Go down one level, let the levels below do the same, and come back up."""
        here: Tensor = self.get_submodule(f"rebnconv{level}")(x)
        if level == self.levels:
            return here
        # The lowest two levels share a resolution; the lowest sees farther by its dilation.
        pools = not self.is_flat and level < self.levels - 1
        below = self._level(level + 1, halve(here) if pools else here)
        up: Tensor = self.get_submodule(f"rebnconv{level}d")(here, below)
        return up


class U2Net(nn.Module):
    """A whole network of the family: a U of residual U-blocks, with one map from each level."""

    def __init__(self, architecture: str) -> None:
        """Make the network with random weights.

        Args:
            architecture: u2net (44,009,869 parameters), u2netp (1,131,181) or isnet (44,046,790).
        """
        super().__init__()
        structure = _STRUCTURES[architecture]
        self.architecture = architecture
        self.grad_checkpointing = False
        self.conv_in = nn.Conv2d(3, structure.stem, 3, stride=2, padding=1) if structure.stem else None
        for name, stage in structure.stages.items():
            self.add_module(name, ResidualUBlock(*stage))
        for level in range(1, _DEPTH + 1):
            channels = structure.stages["stage6" if level == _DEPTH else f"stage{level}d"][3]
            self.add_module(f"side{level}", nn.Conv2d(channels, 1, 3, padding=1))
        self.outconv = nn.Conv2d(_DEPTH, 1, 1) if structure.fuses else None

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the inputs of the U-blocks for the backward pass, which then computes each block once more.

        Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174, section 4.

        Args:
            enable: Whether to do so; it saves memory and costs about a third of a training step.
        """
        self.grad_checkpointing = enable

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of the subject.

        Args:
            x: (N, 3, H, W), RGB, scaled and normalised; H and W at least 32, or 64 for IS-Net.

        Returns:
            Seven maps of logits. First the answer, (N, 1, H, W): the fused map, or the finest one where none is
            fused. Then those of levels 1 to 6 at their own size, which halves, rounded up, from level to level;
            level 1 has the picture's size, or half of it behind a stem.
        """
        features: dict[int, Tensor] = {}
        self._level(1, x if self.conv_in is None else self.conv_in(x), features)
        sides = [self.get_submodule(f"side{level}")(features[level]) for level in range(1, _DEPTH + 1)]
        answer = sides[0]
        if self.outconv is not None:
            answer = self.outconv(torch.cat([resize_like(side, sides[0]) for side in sides], 1))
        return (resize_like(answer, x), *sides)

    def _level(self, level: int, x: Tensor, features: dict[int, Tensor]) -> Tensor:
        """Go down one level, let the levels below do the same, and come back up; keep what each gives."""
        here = self._stage(f"stage{level}", x)
        if level < _DEPTH:
            below = self._level(level + 1, halve(here), features)
            here = self._stage(f"stage{level}d", here, below)
        features[level] = here
        return here

    def _stage(self, name: str, *inputs: Tensor) -> Tensor:
        """Run one U-block; with checkpointing, nothing but its inputs waits for the backward pass."""
        block = self.get_submodule(name)
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            plain: Tensor = block(*inputs)
            return plain

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return contextlib.nullcontext(), _batch_statistics_kept(block)

        # Nothing in a block is random, and the state of the generators cannot be read in a captured step.
        kept: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        return kept


@contextlib.contextmanager
def _batch_statistics_kept(block: nn.Module) -> Iterator[None]:
    """Normalise by the batch as before, but leave the running statistics alone: the first pass has moved them."""
    norms = [layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted


def use_low_rank(network: U2Net, state: Mapping[str, Tensor]) -> None:
    """Replace the convolutions of which a state dict holds a form of low rank, so that the state dict fits."""
    for name in [key.removesuffix(".conv.weight") for key in state if key.endswith(".conv.weight")]:
        full: Any = network.get_submodule(f"{name}.conv_s1")
        expand, below = (state.get(f"{name}.{layer}.weight") for layer in ("expand", "conv_below"))
        rank, channels_below = (0 if weight is None else weight.shape[1] for weight in (expand, below))
        network.set_submodule(
            name, LowRankConv(full.in_channels, full.out_channels, rank or None, full.dilation[0], channels_below)
        )


def load_u2net(path: Path) -> U2Net:
    """Build U²-Net, U²-Net-p or IS-Net, whichever a file holds, with the file's weights, in evaluation mode.

    What `pipelines.compress` made of U²-Net is built with its layers of low rank. In other ONNX files the batch
    normalisations are folded into the convolutions. They come back as ones that change nothing in evaluation mode;
    before further training they need statistics of their own.

    Args:
        path: An .onnx, .pth (read without running code from it) or .safetensors file.

    Raises:
        WeightsError: The file cannot be read, or holds another network.
        MissingExtraError: The package that reads this kind of file is not installed.
    """
    graph = read_graph(path) if path.suffix.lower() == ".onnx" else None
    if graph is not None and (compressed := read_low_rank_weights(graph)):
        side = compressed.get("side3.weight")
        network = U2Net("u2netp" if side is not None and side.shape[1] == _SMALL["stage3d"][3] else "u2net")
        use_low_rank(network, compressed)
        return _load_state(network, compressed, path)
    state = read_state_dict(path) if graph is None else _unfold(graph, path)
    marker = state.get("stage1.rebnconv1.conv_s1.weight")
    if not isinstance(marker, Tensor) or marker.ndim != 4:
        raise _other_network(path, "the first layers are missing")
    return _load_state(U2Net("isnet" if "conv_in.weight" in state else _architecture(marker)), state, path)


def _load_state(network: U2Net, state: Mapping[str, Tensor], path: Path) -> U2Net:
    """Fill a network with the tensors of a file, and put it into evaluation mode."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _other_network(path, " ".join(str(error).split()[:40])) from error
    return network.eval()


def _unfold(graph: Any, path: Path) -> dict[str, Tensor]:
    """Name the convolutions of an ONNX file, and put back the batch normalisations that were folded into them."""
    stored = read_convolutions(graph, path)
    if len(stored) < 2:
        raise _other_network(path, f"it has {len(stored)} convolutions")
    with torch.device("meta"):
        network = U2Net(_architecture(stored[1].weight))
    # The layers are made in the order in which they run, which is the order of the file.
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    if len(layers) != len(stored):
        raise _other_network(path, f"it has {len(stored)} convolutions, not {len(layers)}")
    state: dict[str, Tensor] = {}
    for (name, layer), found in zip(layers, stored, strict=True):
        if found.weight.shape != layer.weight.shape or found.dilations != layer.dilation:
            raise _other_network(path, f"the convolution in the place of {name} has another shape")
        state |= {f"{name}.weight": found.weight, f"{name}.bias": found.bias}
        if name.endswith("conv_s1"):
            state |= _identity_norm(name.replace("conv_s1", "bn_s1"), layer.out_channels)
    return state


def _architecture(second_weight: Tensor) -> str:
    """Tell the networks apart by the width of their second convolution."""
    return {16: "u2netp", 64: "isnet"}.get(second_weight.shape[0], "u2net")


def _identity_norm(name: str, channels: int) -> dict[str, Tensor]:
    """Return a batch normalisation that changes nothing in evaluation mode."""
    # It divides by sqrt(variance + eps), which is 1 for this variance.
    return {
        f"{name}.weight": torch.ones(channels),
        f"{name}.bias": torch.zeros(channels),
        f"{name}.running_mean": torch.zeros(channels),
        f"{name}.running_var": torch.full((channels,), 1.0 - nn.BatchNorm2d(1).eps),
        f"{name}.num_batches_tracked": torch.tensor(0),
    }


def _other_network(path: Path, detail: str) -> WeightsError:
    """Say that a file's layers do not fit."""
    return WeightsError(
        got=f"{path} holds neither U²-Net, U²-Net-p nor IS-Net: {detail}",
        allowed="weights with the layers of the published ones",
        fix="run other networks as .onnx files with engine openvino or onnxruntime",
    )
