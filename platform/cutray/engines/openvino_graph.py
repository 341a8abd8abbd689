"""What is read off an OpenVINO network's graph by those who rewrite it."""

from __future__ import annotations

from typing import Any


def is_convolution(node: Any) -> bool:
    """Return whether a node is a convolution with constant weights."""
    return bool(node.get_type_name() == "Convolution" and weights_node(node).get_type_name() == "Constant")


def weights_node(convolution: Any) -> Any:
    """Return the node that gives a convolution its weights; ``data`` of a constant one is (K, C, h, w)."""
    return convolution.input_value(1).get_node()
