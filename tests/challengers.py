"""Writes small networks for roll-outs: a champion, good challengers, and such as break in every way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIDE_PX = 64
BROKEN = ("load", "crash", "hang", "nan", "size")
_FLOAT, _INT64, _BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
_TRIPS = 4_000_000_000


def write_network(path: Path, kind: str = "", *, steepness: float = 4.0) -> Path:
    """Write a network that takes what is bright for the subject.

    A broken one works on the black picture that it is tried with when it is loaded, and breaks on any other; only
    ``load`` cannot be read at all.

    Args:
        path: The ONNX file.
        kind: One of ``BROKEN``, ``inverse`` for one that takes what is dark, or empty for a good one.
        steepness: Of the edge between bright and dark.
    """
    if kind == "load":
        path.write_bytes(b"no network at all")
        return path
    constants = {
        "w": np.full((1, 3, 1, 1), -steepness if kind == "inverse" else steepness, np.float32),
        "small": np.float32(0.01),
        "zero": np.float32(0),
        "one": np.ones(1, np.float32),
        "trips": np.int64(_TRIPS),
        "starts": np.zeros(1, np.int64),
        "ends": np.full(1, SIDE_PX, np.int64),
        "half": np.full(1, SIDE_PX // 2, np.int64),
        "axes": np.full(1, 2, np.int64),
        "true": np.bool_(True),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["good"]),
        helper.make_node("Abs", ["x"], ["sizes"]),
        helper.make_node("ReduceMax", ["sizes"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "small"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["number"], to=_INT64),
        helper.make_node("Cast", ["bright"], ["flag"], to=_FLOAT),
        *_ending(kind),
    ]
    shape = [1, 3, SIDE_PX, SIDE_PX]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", _FLOAT, shape)],
        [helper.make_tensor_value_info("out", _FLOAT, [1, 1, None, SIDE_PX])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def _ending(kind: str) -> list[Any]:
    """Return the last nodes, from ``good`` to ``out``; ``number`` and ``flag`` are 0 for a black picture, else 1."""
    node = helper.make_node
    if kind == "crash":  # the second element of a list of one
        return [node("Gather", ["one", "number"], ["factor"]), node("Mul", ["good", "factor"], ["out"])]
    if kind == "nan":
        return [node("Neg", ["flag"], ["below"]), node("Sqrt", ["below"], ["n"]), node("Add", ["good", "n"], ["out"])]
    if kind == "size":
        return [
            node("Mul", ["half", "number"], ["less"]),
            node("Sub", ["ends", "less"], ["end"]),
            node("Slice", ["good", "starts", "end", "axes"], ["out"]),
        ]
    if kind == "hang":
        body = helper.make_graph(
            [node("Identity", ["go"], ["on"]), node("Add", ["before", "zero"], ["after"])],
            "body",
            [
                helper.make_tensor_value_info("turn", _INT64, []),
                helper.make_tensor_value_info("go", _BOOL, []),
                helper.make_tensor_value_info("before", _FLOAT, []),
            ],
            [helper.make_tensor_value_info("on", _BOOL, []), helper.make_tensor_value_info("after", _FLOAT, [])],
        )
        return [
            node("Mul", ["trips", "number"], ["turns"]),
            node("Loop", ["turns", "true", "zero"], ["last"], body=body),
            node("Add", ["good", "last"], ["out"]),
        ]
    return [node("Identity", ["good"], ["out"])]
