"""Rewrite the layers of a network that give or take a single map, which OpenVINO computes slowly.

Its vector code works on eight channels or more at a time: a layer of one channel wastes seven, or runs on one thread.
In U²-Net these layers are the side outputs, a tenth of the time for a thousandth of the multiplications. Rewritten they
compute the same sums in another order, so the answers differ by rounding alone: by 3e-7 in fp32, and by 1e-5 in the
mean where the rest is computed in bf16.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.openvino_graph import is_convolution, weights_node
from cutray.privacy import import_openvino

# Maps in the place of one: nine that are needed, and seven that fill up the vectors.
_SPLIT_MAPS = 16
# Larger maps are enlarged faster by Interpolate.
_MAX_ENLARGED_SIDE_PX = 256


def speed_up_single_maps(network: Any) -> None:
    """Change an OpenVINO network for one picture in place; its answers stay the same."""
    rewrites = {"Convolution": _rewrite_convolution, "Interpolate": _rewrite_interpolation}
    for node in network.get_ordered_ops():
        rewrite = rewrites.get(node.get_type_name())
        if rewrite is None or not _is_one_map(node.output(0)):
            continue
        readers = list(node.output(0).get_target_inputs())
        new = rewrite(node)
        if new is not None:
            for reader in readers:
                reader.replace_source_output(new.output(0))
    network.validate_nodes_and_infer_types()


def _is_one_map(value: Any) -> bool:
    """Return whether a value is (1, 1, H, W)."""
    shape = value.get_partial_shape()
    return bool(shape.is_static and list(shape.to_shape()[:2]) == [1, 1] and len(shape) == 4)


def _rewrite_convolution(node: Any) -> Any | None:
    """Return what computes the same as a convolution to a single map, faster; None if there is nothing."""
    how = node.get_attributes()
    is_plain = is_convolution(node) and how["strides"] == how["dilations"] == [1, 1]
    if not is_plain or how["auto_pad"] != "explicit":
        return None
    source, weights, pads = node.input_value(0), weights_node(node).data, how["pads_begin"] + how["pads_end"]
    if weights.shape[2:] == (3, 3) and pads == [1, 1, 1, 1] and weights.shape[1] > _SPLIT_MAPS:
        return _convolve_in_two_steps(source, weights[0])
    if weights.shape[2:] == (1, 1) and pads == [0, 0, 0, 0] and source.get_node().get_type_name() == "Concat":
        maps = source.get_node().input_values()
        return _add_weighted(maps, weights.ravel()) if all(map(_is_one_map, maps)) else None
    return None


def _convolve_in_two_steps(source: Any, weights: NDArray[Any]) -> Any:
    """Convolve (1, C, H, W) with (C, 3, 3): one map for each of the nine weights, then the maps moved and added."""
    ops = import_openvino().opset13
    to_maps = np.zeros((_SPLIT_MAPS, len(weights), 1, 1), weights.dtype)
    to_maps[:9, :, 0, 0] = weights.reshape(-1, 9).T
    moves = np.zeros((1, _SPLIT_MAPS, 3, 3), weights.dtype)
    moves.reshape(_SPLIT_MAPS, 9)[range(9), range(9)] = 1
    maps = ops.convolution(source, ops.constant(to_maps), [1, 1], [0, 0], [0, 0], [1, 1])
    return ops.convolution(maps, ops.constant(moves), [1, 1], [1, 1], [1, 1], [1, 1])


def _add_weighted(maps: list[Any], weights: NDArray[Any]) -> Any:
    """Return the sum of maps, each times its weight, without putting them side by side first."""
    ops = import_openvino().opset13
    weighted = [ops.multiply(*pair) for pair in zip(maps, map(ops.constant, weights), strict=True)]
    return functools.reduce(ops.add, weighted)


def _rewrite_interpolation(node: Any) -> Any | None:
    """Return two products with matrices that enlarge a single map as a node does; None if there are none."""
    how, size, enlarged = node.get_attributes(), node.input(0).get_shape()[2:], node.output(0).get_shape()[2:]
    # Told by factors instead of sizes, a step between pixels need not be the sizes' ratio.
    kind = (how["mode"], how["coordinate_transformation_mode"], how["shape_calculation_mode"])
    is_plain = kind == ("linear_onnx", "half_pixel", "sizes") and not how["antialias"]
    if not is_plain or any(how["pads_begin"] + how["pads_end"]) or node.get_element_type().to_string() != "f32":
        return None
    if max(size) > _MAX_ENLARGED_SIDE_PX:
        return None
    ops = import_openvino().opset13
    rows, columns = (ops.constant(_enlarging_matrix(*sizes)) for sizes in zip(size, enlarged, strict=True))
    return ops.matmul(ops.matmul(rows, node.input_value(0), False, False), columns, False, True)


def _enlarging_matrix(size: int, enlarged: int) -> NDArray[np.float32]:
    """Return the matrix, (enlarged, size), that interpolates a line of values linearly between pixel centres."""
    places = np.clip((np.arange(enlarged) + 0.5) * size / enlarged - 0.5, 0, size - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size))), np.float32)
