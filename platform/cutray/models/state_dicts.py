"""Read tensors out of weight files, without running code from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutray.errors import MissingExtraError, WeightsError

# How exported files name a network's tensors, and the parts of those that are stored in eight bits.
PREFIX = "network."
CODES, STEPS = ".codes", ".steps"
_LOW_RANK = (".expand.weight", f".expand.weight{CODES}")


@dataclass(frozen=True, slots=True)
class Convolution:
    """The stored parts of one convolution: weight (out, in, kh, kw) and bias (out,), float32, and dilations."""

    weight: Tensor
    bias: Tensor
    dilations: tuple[int, ...]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a .pth or .safetensors file, on the CPU.

    Raises:
        WeightsError: The file cannot be read, or holds more than tensors.
        MissingExtraError: The safetensors package is not installed.
    """
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Arbitrary bytes make the reader fail in arbitrary ways, IndexError among them.
        reason = next(iter(str(error).splitlines()), "")
        if not reason or reason.isdigit() or reason.startswith("Weights only load failed"):
            reason = "it is damaged, or holds more than tensors"
        raise WeightsError(
            got=f"{path} cannot be read: {reason}",
            allowed="a file that torch.save wrote from a state_dict, with nothing but tensors",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(got=f"{path} holds something else than named tensors", allowed="a state_dict")
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a .safetensors file."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError(got="safetensors is not installed", fix="`pip install 'cutray[torch]'`") from error
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(got=f"{path} cannot be read: {error}", fix="copy or export the file anew") from error


def read_low_rank_weights(graph: Any) -> dict[str, Tensor]:
    """Return the named tensors of a graph with layers of low rank, float32; nothing if it has none.

    Args:
        graph: From ``read_graph``.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    if not any(name.endswith(_LOW_RANK) for name in stored):
        return {}
    from onnx import numpy_helper

    tensors = {name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for name, tensor in stored.items()}
    state = {name: tensor for name, tensor in tensors.items() if not name.endswith((CODES, STEPS))}
    for name, codes in tensors.items():
        if name.endswith(CODES):
            name = name.removesuffix(CODES)
            state[name] = restore_weight(codes, tensors[name + STEPS])
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}


def restore_weight(codes: Tensor, steps: Tensor) -> Tensor:
    """Return the weights (K, …), float32, of codes of that shape and the (K,) step sizes of the output channels."""
    return codes.float() * steps.reshape(-1, *[1] * (codes.ndim - 1))


def read_graph(path: Path) -> Any:
    """Return the graph of an ONNX file.

    Raises:
        WeightsError: The file cannot be read.
        MissingExtraError: The onnx package is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtraError(got="onnx is not installed", fix="`pip install 'cutray[torch]'`") from error
    try:
        return onnx.load(path).graph
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise WeightsError(got=f"{path} cannot be read as ONNX: {error}", fix="export the model anew") from error


def read_convolutions(graph: Any, path: Path) -> list[Convolution]:
    """Return the convolutions of a graph in the order in which they run.

    Args:
        graph: From ``read_graph``.
        path: Its file, for messages.

    Raises:
        WeightsError: The graph has batch normalisations beside its convolutions, or convolutions whose weight and bias
            are not stored in it.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            raise WeightsError(got=f"{path} has batch normalisations", allowed="ones folded into convolutions")
        if node.op_type != "Conv":
            continue
        names = list(node.input[1:])
        if len(names) != 2 or not all(name in stored for name in names):
            raise WeightsError(got=f"{path}: {node.name} has no stored weight and bias", allowed="float32 ONNX files")
        weight, bias = (torch.from_numpy(numpy_helper.to_array(stored[name]).copy()).float() for name in names)
        dilations = next((tuple(item.ints) for item in node.attribute if item.name == "dilations"), (1, 1))
        found.append(Convolution(weight, bias, dilations))
    return found
