"""Turn weights into an ONNX file that every engine runs: one output, probabilities, any number of photos."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cutray.errors import EngineError, MissingExtraError
from cutray.models.catalog import ModelSpec
from cutray.models.state_dicts import CODES, STEPS
from cutray.privacy import import_onnxruntime, import_openvino

OPSET = 17
_MOST_DIFFERENCE = 1e-4
_SMALLEST_IN_EIGHT_BITS = 1000


class ProbabilityNetwork(nn.Module):
    """A network as it is exported: normalised photos in, probabilities of the fused map out."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network that gives logits, in evaluation mode."""
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, 1, S, S) in [0, 1]."""
        logits: Tensor = self.network(image)[0]
        return logits.sigmoid()


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX file in memory, and how far its results are from PyTorch's.

    Attributes:
        data: The file.
        difference: Largest difference of a probability on random input, for one photo and for two at once.
    """

    data: bytes
    difference: float


def export_onnx(network: nn.Module, side_px: int) -> Exported:
    """Export a network and compare the result with it.

    Args:
        network: From ``load_u2net``.
        side_px: Side of the input, in pixels.

    Returns:
        The file; its batch is of any size, its batch normalisations are folded into the convolutions.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        EngineError: The exported file computes something else.
    """
    try:
        import onnx  # noqa: F401 (torch needs it)

        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise MissingExtraError(
            got=f"{error.name} is not installed", fix="run `pip install 'cutray[onnx,torch]'`"
        ) from error
    wrapped = ProbabilityNetwork(network)
    probe = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, side_px, side_px)).astype(np.float32))
    data = write_onnx(wrapped, probe[:1], ("image", "probs"), {0: "batch"})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = wrapped(probe).numpy()
    results: list[Any] = [session.run(None, {"image": probe[:count].numpy()})[0] for count in (1, 2)]
    difference = max(float(np.abs(one - expected[: len(one)]).max()) for one in results)
    if difference > _MOST_DIFFERENCE:
        raise EngineError(
            got=f"the exported network differs from the original by {difference:.2g}",
            allowed=f"at most {_MOST_DIFFERENCE:g}",
            fix="update torch and onnxruntime",
        )
    return Exported(data, difference)


def write_onnx(network: nn.Module, probe: Tensor, names: tuple[str, ...], free: dict[int, str]) -> bytes:
    """Return a network as an ONNX file.

    Args:
        network: In evaluation mode; its batch normalisations are folded into the convolutions.
        probe: An input.
        names: Of the input and of all outputs.
        free: Dimensions of all of them that may have any length, and what they are called.
    """
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the choice of the exporter: the other one needs another package
        torch.onnx.export(
            network,
            (probe,),
            stream,  # type: ignore[arg-type]  # this exporter writes to streams too
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes=dict.fromkeys(names, free),
            opset_version=OPSET,
            dynamo=False,
        )
    return stream.getvalue()


def halve_precision(data: bytes) -> bytes:
    """Return an ONNX file with weights and arithmetic in fp16, half as large; input and output stay fp32.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtraError(got=f"{error.name} is not installed", fix="run `pip install 'cutray[onnx]'`") from error
    model = convert_float_to_float16(onnx.load_model_from_string(data), keep_io_types=True)
    return bytes(model.SerializeToString())


def store_in_eight_bits(data: bytes) -> bytes:
    """Return an ONNX file whose convolutions store their weights in eight bits; it computes as before.

    Each output channel has a step size of its own, by which a DequantizeLinear node multiplies at load.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtraError(got=f"{error.name} is not installed", fix="run `pip install 'cutray[onnx]'`") from error
    model = onnx.load_model_from_string(data)
    graph = model.graph
    used = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    kept, nodes = [], []
    for tensor in graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if tensor.name not in used or weight.size < _SMALLEST_IN_EIGHT_BITS:
            kept.append(tensor)
            continue
        codes, steps = round_to_eight_bits(weight)
        names = [tensor.name + CODES, tensor.name + STEPS]
        kept += [numpy_helper.from_array(codes, names[0]), numpy_helper.from_array(steps, names[1])]
        nodes.append(onnx.helper.make_node("DequantizeLinear", names, [tensor.name], axis=0))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def round_to_eight_bits(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return (K, ...) weights as codes of the same shape, and the (K,) step sizes of the output channels."""
    steps = np.abs(weight).reshape(len(weight), -1).max(1).clip(1e-12) / 127
    codes = np.rint(weight / steps.reshape(-1, *[1] * (weight.ndim - 1)))
    return codes.astype(np.int8), steps.astype(np.float32)


def save_openvino(path: Path, destination: Path) -> None:
    """Write an ONNX file as OpenVINO's own format: an .xml file, and a .bin file with the weights in fp16.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise MissingExtraError(got="openvino is not installed", fix="run `pip install openvino`") from error
    openvino.save_model(openvino.Core().read_model(path), destination, compress_to_fp16=True)


def describe_model(spec: ModelSpec) -> str:
    """Return the text that says, beside a file of weights, how its input is prepared; the words of weights.toml."""
    lines: dict[str, Any] = {
        "architecture": f'"{spec.architecture}"',
        "license": f'"{spec.license}"',
        "input_size_px": spec.input_size_px,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "scale": f'"{spec.scale}"',
        "cpu_precisions": "[" + ", ".join(f'"{name}"' for name in spec.cpu_precisions) + "]",
        "trained_on": "[" + ", ".join(f'"{name}"' for name in spec.trained_on) + "]",
        "description": f'"{spec.description}"',
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())
