"""Mix the channels between two convolutions, so that all of them vary alike and eight bits serve each equally well.

Where a 1×1 convolution reads the plain response of another convolution, an orthogonal matrix may stand between the two,
with its inverse behind it: the first goes into the weights of the one, the second into those of the other. The
network's answers stay the same.

Source: Ashkboos et al., "QuaRot: outlier-free 4-bit inference in rotated LLMs" (2024), section 4, for convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.openvino_graph import is_convolution, weights_node
from cutray.privacy import import_openvino


def mix_channels(convolutions: Iterable[Any]) -> None:
    """Change the weights of an OpenVINO network in place, so that inputs of 1×1 convolutions are mixed.

    The input may be the sum of several convolutions' responses, which may be enlarged, if nothing else reads them.

    Args:
        convolutions: Those whose inputs may be mixed, in the order in which they run, with weights in fp32 or fp16.
            The ones with larger kernels are left as they are.
    """
    for node in convolutions:
        weights = _weights(node)
        summands = _summands(node.input_value(0).get_node(), weights.shape[1]) if weights.shape[2:] == (1, 1) else []
        if summands:
            mixing = _hartley_matrix(weights.shape[1])
            _set_weights(node, (weights[:, :, 0, 0] @ mixing)[:, :, None, None])  # the matrix is its own inverse
            for summand in summands:
                _set_weights(summand, np.tensordot(mixing, _weights(summand), 1))


def _summands(node: Any, channels: int) -> list[Any]:
    """Return the convolutions whose responses, enlarged and added, a node gives; none if it gives anything else."""
    kind = node.get_type_name()
    if len(node.output(0).get_target_inputs()) != 1:
        return []
    if is_convolution(node):
        return [node] if len(_weights(node)) == channels else []
    if kind == "Interpolate":
        return _summands(node.input_value(0).get_node(), channels)
    if kind == "Add":
        left, right = (_summands(value.get_node(), channels) for value in node.input_values())
        return left + right if left and right else []
    return []


def _hartley_matrix(size: int) -> NDArray[np.float32]:
    """Return the matrix of the discrete Hartley transform: orthogonal, its own inverse, all entries of similar size.

    Source: Bracewell, "Discrete Hartley transform", Journal of the Optical Society of America 73 (1983), eq. 1.
    """
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size
    return np.asarray((np.cos(angles) + np.sin(angles)) / np.sqrt(size), np.float32)


def _weights(convolution: Any) -> NDArray[np.float32]:
    """Return the weights of a convolution, (K, C, h, w)."""
    return np.asarray(weights_node(convolution).data, np.float32)


def _set_weights(convolution: Any, weights: NDArray[np.float32]) -> None:
    """Give a convolution other weights, in the format and under the name of those that it has."""
    old = weights_node(convolution)
    new = import_openvino().opset13.constant(np.ascontiguousarray(weights, old.data.dtype))
    new.set_friendly_name(old.get_friendly_name())
    convolution.input(1).replace_source_output(new.output(0))
