"""Change the shape that an ONNX file fixes for its input, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cutray.errors import EngineError, EngineUnavailableError


def make_batch_dynamic(path: Path, input_size_px: int) -> tuple[bytes, str]:
    """Let an ONNX file take any number of pictures per batch, at a given side, and give only its first output.

    Published U²-Net files fix a batch of one and have seven outputs, six of which serve training alone. Weights that
    are stored in eight bits become plain ones, because not every engine knows them.

    Returns:
        The changed file, and the name of its input.

    Raises:
        EngineUnavailableError: The ``onnx`` package is not installed.
        EngineError: The file cannot be read, or its input is not one batch of pictures.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise EngineUnavailableError(
            got=f"this file needs a change of its input's shape, and onnx cannot be loaded: {error}",
            fix="`pip install onnx`",
        ) from error
    try:
        model = onnx.load(path)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise EngineError(got=f"{path} cannot be read as ONNX: {error}", fix="export the model anew") from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else []
    if len(inputs) != 1 or len(dims) != 4 or not graph.output:
        raise EngineError(got=f"{path} has {len(inputs)} inputs", allowed="one input (N, 3, H, W) and an output")
    for dim, size in zip(dims, ("pictures", 3, input_size_px, input_size_px), strict=True):
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    _multiply_out(graph)
    # Shapes written down for the old input would contradict the new one; engines infer them again.
    del graph.value_info[:]
    del graph.output[1:]
    graph.output[0].type.tensor_type.ClearField("shape")
    return bytes(model.SerializeToString()), str(inputs[0].name)


def _multiply_out(graph: Any) -> None:
    """Replace stored tensors of eight bits and their step sizes by their products."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    read: set[str] = set()
    for node in [one for one in graph.node if one.op_type == "DequantizeLinear"]:
        if not all(name in stored for name in node.input):
            continue
        codes, steps, *zero = (numpy_helper.to_array(stored[name]) for name in node.input)
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        shape = [1] * codes.ndim
        if steps.ndim:  # a step for each channel
            shape[axis] = steps.size
        offset = zero[0].reshape(shape).astype(np.float32) if zero else 0
        plain = (codes.astype(np.float32) - offset) * steps.reshape(shape)
        graph.initializer.append(numpy_helper.from_array(plain.astype(np.float32), node.output[0]))
        graph.node.remove(node)
        read |= set(node.input)
    for name in read.difference(*(node.input for node in graph.node)):
        graph.initializer.remove(stored[name])
