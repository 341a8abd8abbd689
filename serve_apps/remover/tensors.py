"""Reads and writes the tensors of the Open Inference Protocol v2: JSON, and JSON followed by raw bytes.

Source: the protocol's "Predict Protocol - Version 2", and its extension for binary tensor data.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cutray.models.catalog import ModelSpec
from serve_apps.remover.errors import ApiError
from serve_apps.remover.schemas import ModelInfo

# The names under which models are registered, too.
INPUT, OUTPUT, DATATYPE = "image", "probs", "FP32"
HEADER_LENGTH = "Inference-Header-Content-Length"
_BYTES = 4
_RAW = np.dtype("<f4")
_MOST_HEADER_BYTES = 64 << 10
_OTHER_MARKS = 4096  # brackets and quotation marks of names, shapes and parameters
# Resampling overshoots by this share of the range; more means that a picture was not prepared for the network.
_OVERSHOOT = 0.25


def read_request(
    body: bytes, header_length: int | None, spec: ModelSpec, most: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Read what a client wants the network to see.

    Args:
        body: The request's body.
        header_length: Bytes of JSON in front of raw bytes; None if all of it is JSON.
        spec: The model.
        most: Most pictures.

    Returns:
        (N, 3, S, S) float32, and the request without its data.

    Raises:
        ApiError: It is malformed, has another shape or type, or values that no prepared picture has.
    """
    _check_marks(body[:header_length], spec.input_size_px, most)
    request, raw = _split(body, header_length)
    inputs, side = request.get("inputs"), spec.input_size_px
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _wrong("inputs", f"a list of one tensor, {INPUT}")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise _wrong(f"the input {_echo(tensor.get('name'))}", INPUT)
    if tensor.get("datatype") != DATATYPE:
        raise _wrong(f"datatype {_echo(tensor.get('datatype'))}", DATATYPE)
    shape = tensor.get("shape")
    if not _is_shape(shape, side) or not 1 <= shape[0] <= most:
        raise _wrong(f"shape {_echo(shape)}", f"[N, 3, {side}, {side}] with N from 1 to {most}")
    _check_outputs(request)
    values = _raw_values(tensor, raw, shape) if raw is not None else _json_values(tensor, shape)
    _check_range(values, spec)
    return values, {name: value for name, value in request.items() if name != "inputs"}


def write_response(maps: NDArray[np.float32], request: dict[str, Any], model: str) -> tuple[bytes, int | None]:
    """Write the network's answer, in the form that the request asks for.

    Args:
        maps: (N, S, S) float32 in [0, 1].
        request: From ``read_request``.
        model: The model's name.

    Returns:
        The body, and how many bytes of JSON are in front of raw ones; None if all of it is JSON.
    """
    count, height, width = maps.shape
    tensor: dict[str, Any] = {"name": OUTPUT, "datatype": DATATYPE, "shape": [count, 1, height, width]}
    answer = {"model_name": model, **({"id": request["id"]} if "id" in request else {}), "outputs": [tensor]}
    if not _wants_raw(request):
        tensor["data"] = maps.ravel().tolist()
        return json.dumps(answer).encode(), None
    raw = np.ascontiguousarray(maps, _RAW).tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps(answer).encode()
    return head + raw, len(head)


def describe_model(name: str, info: ModelInfo) -> dict[str, Any]:
    """Return the metadata of a model, with how a picture is prepared for it."""
    side = info.input_size_px
    return {
        "name": name,
        "platform": "cutray",
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, 3, side, side]}],
        "outputs": [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1, 1, side, side]}],
        "parameters": {"scale": info.scale, "mean": info.mean, "std": info.std},
    }


def picture_bytes(side_px: int) -> int:
    """Return how many raw bytes a picture has."""
    return _BYTES * 3 * side_px * side_px


def read_header_length(text: str | None) -> int | None:
    """Read the header that says where the JSON ends.

    Raises:
        ApiError: It is no number.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _wrong(f"{HEADER_LENGTH} = {_echo(text)}", "a number of bytes")
    return int(text)


def _check_marks(text: bytes, side: int, most: int) -> None:
    """Refuse JSON with more lists, objects or texts than tensors have: each takes far more memory than its bytes."""
    rows = most * (3 * (side + 1) + 1)
    if text.count(b"[") + text.count(b"{") > rows + _OTHER_MARKS or text.count(b'"') > _OTHER_MARKS:
        raise _wrong("the body", f"JSON with at most {most} pictures of {side} rows, and few names")


def _split(body: bytes, header_length: int | None) -> tuple[dict[str, Any], memoryview | None]:
    """Tell the JSON from the bytes behind it."""
    if header_length is not None and header_length > min(len(body), _MOST_HEADER_BYTES):
        raise _wrong(f"{HEADER_LENGTH} = {header_length}", f"at most {min(len(body), _MOST_HEADER_BYTES)} here")
    try:
        request = json.loads(body[:header_length])
    except (ValueError, RecursionError) as error:
        raise _wrong("the body", "JSON") from error
    if not isinstance(request, dict):
        raise _wrong("the body", "a JSON object")
    if not isinstance(request.get("id", ""), str):
        raise _wrong("id", "text")
    return request, None if header_length is None else memoryview(body)[header_length:]


def _is_shape(shape: object, side: int) -> TypeGuard[list[int]]:
    """Return whether it is the shape of prepared pictures; true and 3.0 are no sizes."""
    return (
        isinstance(shape, list)
        and len(shape) == 4
        and all(type(length) is int for length in shape)
        and shape[1:] == [3, side, side]
    )


def _raw_values(tensor: dict[str, Any], raw: memoryview, shape: Sequence[int]) -> NDArray[np.float32]:
    """Read a tensor out of raw bytes."""
    needed = _BYTES * int(np.prod(shape))
    size = _parameters(tensor).get("binary_data_size")
    if "data" in tensor or type(size) is not int or size != needed or len(raw) != needed:
        raise _wrong(
            f"binary_data_size {_echo(size)} with {len(raw)} bytes behind the JSON", f"{needed} for shape {list(shape)}"
        )
    return np.frombuffer(raw, _RAW).astype(np.float32, copy=False).reshape(shape)


def _json_values(tensor: dict[str, Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """Read a tensor out of JSON, flat or nested."""
    _parameters(tensor)
    try:
        values = np.asarray(tensor.get("data"))
    except (ValueError, OverflowError) as error:  # nested lists of unequal lengths
        raise _wrong("data", f"{int(np.prod(shape))} numbers") from error
    if values.dtype.kind not in "iuf" or values.shape not in (tuple(shape), (int(np.prod(shape)),)):
        raise _wrong("data", f"{int(np.prod(shape))} numbers, flat or nested as shape says")
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused as such
        return values.astype(np.float32).reshape(shape)


def _parameters(part: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a tensor or request; some would change its meaning and are not offered."""
    parameters = part.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _wrong("parameters", "a JSON object")
    if other := [name for name in parameters if name.startswith("shared_memory") or name == "classification"]:
        raise _wrong(f"the parameter {other[0]}", "tensors in the request and in the answer")
    return parameters


def _check_outputs(request: dict[str, Any]) -> None:
    """Refuse to answer with what there is not."""
    _parameters(request)
    outputs = request.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise _wrong("outputs", f"a list of tensors, of which there is {OUTPUT}")
    for output in outputs:
        if output.get("name") != OUTPUT:
            raise _wrong(f"the output {_echo(output.get('name'))}", OUTPUT)
        _parameters(output)


def _wants_raw(request: dict[str, Any]) -> bool:
    """Return whether the answer shall be raw bytes; an output's own wish goes before the request's."""
    default = _parameters(request).get("binary_data_output") is True
    return any(_parameters(output).get("binary_data", default) is True for output in request.get("outputs") or [{}])


def _check_range(values: NDArray[np.float32], spec: ModelSpec) -> None:
    """Refuse values that no picture has that was prepared for the model; NaN compares false with everything."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    low, high = (0 - mean) / std, (1 - mean) / std
    slack = _OVERSHOOT * (high - low)
    got_low, got_high = values.min((0, 2, 3)), values.max((0, 2, 3))
    if not (np.all(got_low >= low - slack) and np.all(got_high <= high + slack)):
        raise _wrong(
            f"values from {got_low.min():.4g} to {got_high.max():.4g}",
            f"{low.min():.4g} to {high.max():.4g}, prepared by scale, mean and std as the model's metadata say",
        )


def _wrong(got: str, allowed: str) -> ApiError:
    """Say what came and what is taken."""
    return ApiError("bad_tensor", f"{got}: allowed is {allowed}.")


def _echo(value: object) -> str:
    """Repeat a little of what came."""
    return reprlib.repr(value)
