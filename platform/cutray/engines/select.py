"""Choose the fastest engine that a machine offers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from cutray.config import EngineSettings
from cutray.engines.hardware import Hardware
from cutray.engines.measured import Winner
from cutray.errors import EngineUnavailableError

_INSTALL = {
    "openvino": "`pip install openvino`",
    "onnxruntime": "`pip install 'cutray[onnx]'`",
    "onnxruntime-gpu": "`pip uninstall -y onnxruntime && pip install 'cutray[gpu]'`",
    "torch": "`pip install 'cutray[torch]'`",
    "MNN": "`pip install 'cutray[mnn]'`",
}
# The package of each engine.
PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime", "mnn": "MNN", "pytorch": "torch"}
# On these OpenVINO multiplies more than MNN does in fp32; in int8 it is ahead. See docs/decisions/mnn.md.
_MNN_IS_FASTEST = ("AVX2",)
# For so few photos OpenVINO is done before MNN, which prepares its weights for longer than it then saves.
FEW_PHOTOS = 3
_TORCH_ONLY = (".pth", ".safetensors")
# What each engine can compute in, by device.
_PRECISIONS = {
    ("openvino", "cpu"): ("fp32", "bf16", "int8"),
    ("onnxruntime", "cpu"): ("fp32",),
    ("onnxruntime", "cuda"): ("fp32", "fp16"),
    ("mnn", "cpu"): ("fp32",),
    ("pytorch", "cpu"): ("fp32", "bf16"),
    ("pytorch", "cuda"): ("fp32", "bf16", "fp16"),
}


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, where and how it runs, and why it was chosen, as a clause for people."""

    engine: str
    device: str
    precision: str
    threads: int
    reason: str
    streams: int = 1
    cuda_graph: bool = False
    torch_compile: bool = False


def choose_engine(
    settings: EngineSettings,
    weights_suffix: str,
    hardware: Hardware,
    allowed_precisions: Sequence[str] = ("bf16",),
    measured: Winner | None = None,
    photos: int | None = None,
) -> EngineChoice:
    """Choose an engine. What is left to "auto" is chosen for speed; what is asked for is had, or an error.

    Args:
        settings: What is asked for.
        weights_suffix: Ending of the weights' file: .onnx, .pth or .safetensors.
        hardware: What the machine offers.
        allowed_precisions: Number formats besides fp32 in which the model keeps its quality on a processor,
            fastest first.
        measured: What was measured to be the fastest on this processor; taken where "auto" would choose by its table.
        photos: How many there are to do, if that is known; for a few of them a short start counts.

    Raises:
        EngineUnavailableError: The engine, device or precision asked for, or a combination, is not to be had.
    """
    _require_possible(settings, hardware)
    suffix = weights_suffix.lower()
    if suffix in _TORCH_ONLY and settings.engine not in ("auto", "pytorch"):
        raise EngineUnavailableError(
            got=f"engine {settings.engine} was asked for, but the weights are a {suffix} file",
            allowed="openvino, onnxruntime and mnn run .onnx files",
            fix="use engine pytorch, or turn the weights into ONNX with `cutray export`",
        )
    if settings.engine == "pytorch" or suffix in _TORCH_ONLY:
        engine, device, reason = _place_pytorch(settings, hardware, suffix)
    elif settings.engine == "openvino":
        _require_package("openvino", hardware)
        engine, device, reason = "openvino", "cpu", "asked for"
    elif settings.engine == "mnn":
        _require_package("MNN", hardware)
        engine, device, reason = "mnn", "cpu", "asked for"
    elif settings.engine == "onnxruntime":
        engine, device, reason = _place_onnxruntime(settings, hardware)
    else:
        engine, device, reason = _choose_fastest(settings, hardware, allowed_precisions)
        if device == "cpu" and measured and _may_take(measured, settings, hardware, allowed_precisions):
            settings = settings.model_copy(update={"precision": measured.precision})
            engine, reason = measured.engine, f"the fastest here, measured on {measured.date}"
        if engine == "mnn" and photos is not None and photos <= FEW_PHOTOS and "openvino" in hardware.packages:
            engine, reason = "openvino", f"it starts sooner than mnn, which is faster from {FEW_PHOTOS + 1} photos on"
    precision = _choose_precision(settings, hardware, engine, device, allowed_precisions)
    threads = settings.threads or hardware.cores
    return EngineChoice(
        engine,
        device,
        precision,
        threads,
        reason,
        min(settings.streams, threads),
        settings.cuda_graph,
        settings.torch_compile,
    )


def list_cpu_choices(settings: EngineSettings, weights_suffix: str, hardware: Hardware) -> list[EngineChoice]:
    """Return every engine with every number format that could run a file on this processor."""
    choices = []
    for (engine, device), precisions in _PRECISIONS.items():
        for precision in precisions if device == "cpu" else ():
            wanted = settings.model_copy(update={"engine": engine, "device": "cpu", "precision": precision})
            with contextlib.suppress(EngineUnavailableError):
                choices.append(choose_engine(wanted, weights_suffix, hardware))
    return choices


def _require_possible(settings: EngineSettings, hardware: Hardware) -> None:
    """Refuse what no choice of engine could provide."""
    if settings.device == "cuda" and not hardware.cuda_gpus:
        raise EngineUnavailableError(
            got="device cuda was asked for, but no NVIDIA GPU can be seen",
            allowed="a GPU with its driver, not hidden by CUDA_VISIBLE_DEVICES, and in a container passed on to it",
            fix="check `nvidia-smi`, or use device cpu",
        )
    if settings.device == "cuda" and settings.engine in ("openvino", "mnn"):
        raise EngineUnavailableError(
            got=f"{settings.engine} does not run on NVIDIA GPUs", fix="use engine onnxruntime or pytorch, or device cpu"
        )


def _computes_in(hardware: Hardware, precision: str) -> bool:
    """Whether the processor has instructions for a number format."""
    return {"int8": hardware.computes_in_int8, "bf16": hardware.computes_in_bf16, "fp32": True}.get(precision, False)


def _choose_precision(
    settings: EngineSettings, hardware: Hardware, engine: str, device: str, allowed_precisions: Sequence[str]
) -> str:
    """Settle the number format of an engine on a device."""
    allowed = _PRECISIONS[engine, device]
    if settings.precision == "auto":
        wanted = ("bf16",) if device == "cuda" else allowed_precisions
        usable = (name for name in wanted if name in allowed and (device == "cuda" or _computes_in(hardware, name)))
        return next(usable, "fp32")
    if settings.precision not in allowed:
        raise EngineUnavailableError(
            got=f"{engine} does not compute in {settings.precision} on {device}",
            allowed=f"it computes in {' or '.join(allowed)}",
            fix="leave the precision to auto, or choose another engine or device",
        )
    if settings.precision == "bf16" and device == "cpu" and not hardware.computes_in_bf16:
        raise EngineUnavailableError(
            got=f"precision bf16 was asked for, but {hardware.cpu_name} does not compute in it",
            allowed="processors with AMX, AVX512_BF16 or ARM's BF16",
            fix="leave the precision to auto",
        )
    if settings.precision == "int8" and not hardware.computes_in_int8:
        raise EngineUnavailableError(
            got=f"precision int8 was asked for, but on {hardware.cpu_name} it is not known to be fast and exact",
            allowed="x86 processors with AVX2 or more",
            fix="leave the precision to auto",
        )
    return settings.precision


def _require_package(package: str, hardware: Hardware) -> None:
    """Refuse an engine whose package is not installed."""
    if package not in hardware.packages:
        raise _missing_package(package, hardware)


def _missing_package(package: str, hardware: Hardware) -> EngineUnavailableError:
    """Say which package is missing and how to install it."""
    return EngineUnavailableError(
        got=f"{package} is needed and not installed",
        allowed=f"installed are {', '.join(sorted(hardware.packages)) or 'no engines'}",
        fix=_INSTALL[package],
    )


def _torch_sees_gpus(hardware: Hardware) -> bool:
    """Whether there is a GPU and a torch that is not built for CPUs alone."""
    return bool(hardware.cuda_gpus) and not hardware.packages.get("torch", "+cpu").endswith("+cpu")


def _place_pytorch(settings: EngineSettings, hardware: Hardware, suffix: str) -> tuple[str, str, str]:
    """Place PyTorch on a device."""
    _require_package("torch", hardware)
    reason = "asked for" if settings.engine == "pytorch" else f"{suffix} files run in PyTorch alone"
    if settings.device == "cuda" and not _torch_sees_gpus(hardware):
        raise EngineUnavailableError(
            got=f"torch {hardware.packages['torch']} is built for CPUs alone",
            fix="install a CUDA build of torch, or use device cpu",
        )
    on_gpu = settings.device != "cpu" and _torch_sees_gpus(hardware)
    return "pytorch", "cuda" if on_gpu else "cpu", reason


def _place_onnxruntime(settings: EngineSettings, hardware: Hardware) -> tuple[str, str, str]:
    """Place ONNX Runtime on a device."""
    gpu_build = "onnxruntime-gpu" in hardware.packages
    if settings.device == "cuda":
        _require_package("onnxruntime-gpu", hardware)
    if not gpu_build:
        _require_package("onnxruntime", hardware)
    on_gpu = settings.device != "cpu" and gpu_build and bool(hardware.cuda_gpus)
    return "onnxruntime", "cuda" if on_gpu else "cpu", "asked for"


def _choose_fastest(
    settings: EngineSettings, hardware: Hardware, allowed_precisions: Sequence[str]
) -> tuple[str, str, str]:
    """Choose among the engines for ONNX files."""
    packages, idle_gpu = hardware.packages, ""
    if settings.precision == "int8" and settings.device != "cuda":
        _require_package("openvino", hardware)
        return "openvino", "cpu", "the only engine for int8"
    if settings.device != "cpu" and hardware.cuda_gpus:
        gpu = hardware.cuda_gpus[0]
        tensorrt_missing = settings.precision == "fp16" and "tensorrt" not in packages
        if "onnxruntime-gpu" in packages and settings.precision != "bf16" and not tensorrt_missing:
            return "onnxruntime", "cuda", f"fastest on {gpu}"
        only_gpu_can = settings.precision == "fp16" or (settings.precision == "bf16" and not hardware.computes_in_bf16)
        asked = settings.device == "cuda" or only_gpu_can
        if asked and _torch_sees_gpus(hardware):
            return "pytorch", "cuda", f"runs on {gpu} and is installed"
        if asked:
            _require_package("onnxruntime-gpu", hardware)
            raise EngineUnavailableError(
                got=f"precision {settings.precision} on {gpu} needs a CUDA build of torch, or for fp16 TensorRT",
                fix=f"{_INSTALL['torch']}, or leave the precision to auto",
            )
        idle_gpu = f"; {gpu} is idle, {_INSTALL['onnxruntime-gpu']} puts it to use"
    return _choose_on_cpu(settings, hardware, allowed_precisions, idle_gpu)


def _may_take(
    measured: Winner, settings: EngineSettings, hardware: Hardware, allowed_precisions: Sequence[str]
) -> bool:
    """Tell whether a measured engine is still to be had, in a number format that this model keeps its quality in."""
    return (
        settings.precision in ("auto", measured.precision)
        and measured.precision in ("fp32", *allowed_precisions)
        and measured.precision in _PRECISIONS.get((measured.engine, "cpu"), ())
        and _computes_in(hardware, measured.precision)
        and PACKAGES[measured.engine] in hardware.packages
    )


def _choose_on_cpu(
    settings: EngineSettings, hardware: Hardware, allowed_precisions: Sequence[str], note: str
) -> tuple[str, str, str]:
    """Choose among the engines for a processor; ``note`` is added to the reason."""
    packages = hardware.packages
    precision = "fp32"
    if "openvino" in packages:
        precision = _choose_precision(settings, hardware, "openvino", "cpu", allowed_precisions)
    only_fp32 = settings.precision in ("auto", "fp32") and precision == "fp32"
    prefers_mnn = hardware.instruction_set in _MNN_IS_FASTEST and only_fp32
    if prefers_mnn and "MNN" in packages and "onnx" in packages:
        return "mnn", "cpu", f"the fastest with {hardware.used_instruction_set} alone" + note
    if "openvino" in packages:
        native = precision != "fp32"
        reason = f"the processor computes in {precision}, where openvino is fastest" if native else "fastest here"
        if prefers_mnn:
            reason = f"installed; {_INSTALL['MNN']} is faster with {hardware.used_instruction_set} alone"
        return "openvino", "cpu", reason + note
    if "torch" in packages and settings.precision == "bf16":
        return "pytorch", "cpu", "the only installed engine for bf16 on a processor" + note
    if "onnxruntime" in packages or "onnxruntime-gpu" in packages:
        return "onnxruntime", "cpu", "openvino is not installed" + note
    if "torch" in packages:
        return "pytorch", "cpu", "the only engine installed" + note
    raise _missing_package("openvino", hardware)
