"""Which engine is chosen on which machine, how it is built, and what is refused."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cutray.config import EngineSettings
from cutray.engines.create import create_engine
from cutray.engines.hardware import Hardware, inspect_hardware, list_cuda_gpus, read_cpu, usable_cores
from cutray.engines.measured import Winner
from cutray.engines.select import FEW_PHOTOS, EngineChoice, choose_engine
from cutray.errors import EngineError, EngineUnavailableError

ALL = {"openvino": "2026.4.1", "onnxruntime": "1.32.0", "torch": "2.13.0", "onnx": "1.23.2", "MNN": "3.6.1"}
GPU = ALL | {"onnxruntime-gpu": "1.32.0"}
AMX = Hardware(cores=4, cpu_name="Xeon", amx_bf16=True, avx512_bf16=True, packages=ALL)
ZEN4 = Hardware(cores=2, cpu_name="EPYC", avx512_bf16=True, packages=ALL)
LAPTOP = Hardware(cores=8, cpu_name="Core i7", instruction_set="AVX2", packages=ALL)
LAPTOP_WITHOUT_MNN = Hardware(cores=8, instruction_set="AVX2", packages={"openvino": "2026.4.1"})
OLD = Hardware(cores=8, cpu_name="Core i7", packages=ALL)
GRAVITON = Hardware(cores=16, cpu_name="Neoverse", arm_bf16=True, packages=ALL)
H100 = Hardware(cores=16, cpu_name="Xeon", amx_bf16=True, cuda_gpus=("H100",), packages=GPU)
H100_CPU_BUILD = Hardware(cores=16, cpu_name="Core i7", cuda_gpus=("H100",), packages=ALL | {"torch": "2.13.0+cpu"})
ONLY_ORT = Hardware(cores=2, cpu_name="Core i7", packages={"onnxruntime": "1.32.0"})
NOTHING = Hardware(cores=2, cpu_name="Core i7")


@pytest.mark.parametrize(
    ("asked", "suffix", "hardware", "expected"),
    [
        ({}, ".onnx", AMX, ("openvino", "cpu", "bf16", 4)),
        ({}, ".ONNX", ZEN4, ("openvino", "cpu", "bf16", 2)),
        ({}, ".onnx", GRAVITON, ("openvino", "cpu", "bf16", 16)),
        ({}, ".onnx", OLD, ("openvino", "cpu", "fp32", 8)),
        ({}, ".onnx", LAPTOP, ("mnn", "cpu", "fp32", 8)),
        ({"engine": "openvino"}, ".onnx", LAPTOP, ("openvino", "cpu", "fp32", 8)),
        ({}, ".onnx", LAPTOP_WITHOUT_MNN, ("openvino", "cpu", "fp32", 8)),
        ({}, ".pth", LAPTOP, ("pytorch", "cpu", "fp32", 8)),
        ({}, ".onnx", ONLY_ORT, ("onnxruntime", "cpu", "fp32", 2)),
        ({}, ".onnx", Hardware(2, packages={"torch": "2.13.0"}), ("pytorch", "cpu", "fp32", 2)),
        ({}, ".onnx", H100, ("onnxruntime", "cuda", "fp32", 16)),
        ({}, ".onnx", H100_CPU_BUILD, ("openvino", "cpu", "fp32", 16)),
        ({"device": "cpu"}, ".onnx", H100, ("openvino", "cpu", "bf16", 16)),
        ({"device": "cuda", "precision": "bf16"}, ".onnx", H100, ("pytorch", "cuda", "bf16", 16)),
        ({"precision": "fp16"}, ".onnx", H100, ("pytorch", "cuda", "fp16", 16)),
        ({"engine": "onnxruntime", "precision": "fp16"}, ".onnx", H100, ("onnxruntime", "cuda", "fp16", 16)),
        ({"engine": "openvino"}, ".onnx", H100, ("openvino", "cpu", "bf16", 16)),
        ({"engine": "onnxruntime"}, ".onnx", AMX, ("onnxruntime", "cpu", "fp32", 4)),
        ({"engine": "onnxruntime", "device": "cpu"}, ".onnx", H100, ("onnxruntime", "cpu", "fp32", 16)),
        ({"engine": "mnn"}, ".onnx", AMX, ("mnn", "cpu", "fp32", 4)),
        ({"engine": "pytorch"}, ".onnx", AMX, ("pytorch", "cpu", "bf16", 4)),
        ({"precision": "fp32", "threads": 3}, ".onnx", AMX, ("openvino", "cpu", "fp32", 3)),
        ({}, ".pth", OLD, ("pytorch", "cpu", "fp32", 8)),
        ({}, ".safetensors", H100, ("pytorch", "cuda", "bf16", 16)),
        ({}, ".pth", H100_CPU_BUILD, ("pytorch", "cpu", "fp32", 16)),
    ],
)
def test_choice(asked: dict[str, object], suffix: str, hardware: Hardware, expected: tuple[str, str, str, int]) -> None:
    """The fastest engine of each machine is chosen, and what is asked for is had."""
    choice = choose_engine(EngineSettings.model_validate(asked), suffix, hardware)
    assert (choice.engine, choice.device, choice.precision, choice.threads) == expected
    assert choice.reason


@pytest.mark.parametrize(
    ("asked", "suffix", "hardware", "message"),
    [
        ({"device": "cuda"}, ".onnx", AMX, "no NVIDIA GPU"),
        ({"device": "cuda"}, ".onnx", H100_CPU_BUILD, r"cutray\[gpu\]"),
        ({"device": "cuda", "engine": "onnxruntime"}, ".onnx", H100_CPU_BUILD, r"cutray\[gpu\]"),
        ({"device": "cuda", "engine": "pytorch"}, ".onnx", H100_CPU_BUILD, "built for CPUs alone"),
        ({"device": "cuda", "engine": "openvino"}, ".onnx", H100, "does not run on NVIDIA"),
        ({"engine": "openvino"}, ".onnx", ONLY_ORT, "pip install openvino"),
        ({"engine": "onnxruntime"}, ".onnx", NOTHING, r"cutray\[onnx\]"),
        ({"engine": "pytorch"}, ".onnx", ONLY_ORT, r"cutray\[torch\]"),
        ({}, ".onnx", NOTHING, "pip install openvino"),
        ({}, ".pth", ONLY_ORT, r"cutray\[torch\]"),
        ({"engine": "mnn"}, ".onnx", ONLY_ORT, r"cutray\[mnn\]"),
        ({"engine": "mnn", "device": "cuda"}, ".onnx", H100, "mnn does not run on NVIDIA"),
        ({"engine": "mnn", "precision": "bf16"}, ".onnx", AMX, "mnn does not compute in bf16"),
        ({"engine": "mnn"}, ".safetensors", AMX, "cutray export"),
        ({"engine": "openvino"}, ".pth", AMX, "cutray export"),
        ({"precision": "int8"}, ".onnx", AMX, "int8"),
        ({"precision": "bf16"}, ".onnx", OLD, "Core i7 does not compute in it"),
        ({"precision": "fp16"}, ".onnx", AMX, "does not compute in fp16"),
        ({"precision": "bf16", "engine": "onnxruntime"}, ".onnx", AMX, "does not compute in bf16"),
        ({"precision": "fp16", "device": "cuda"}, ".onnx", H100_CPU_BUILD, r"cutray\[gpu\]"),
    ],
)
def test_refusal(asked: dict[str, object], suffix: str, hardware: Hardware, message: str) -> None:
    """What was asked for and cannot be had is an error that names the way out."""
    with pytest.raises(EngineUnavailableError, match=message):
        choose_engine(EngineSettings.model_validate(asked), suffix, hardware)


def test_faster_engine_is_mentioned() -> None:
    """With AVX2 alone the reason names the package that would be faster."""
    assert "cutray[mnn]" in choose_engine(EngineSettings(), ".onnx", LAPTOP_WITHOUT_MNN).reason


@pytest.mark.parametrize(
    ("asked", "hardware", "expected"),
    [
        ({}, LAPTOP, ("openvino", "int8")),
        ({}, LAPTOP_WITHOUT_MNN, ("openvino", "int8")),
        ({}, replace(LAPTOP_WITHOUT_MNN, instruction_set="AVX512"), ("openvino", "int8")),
        ({}, replace(LAPTOP, packages={"MNN": "3.6.1", "onnx": "1.23.2"}), ("mnn", "fp32")),
        ({}, OLD, ("openvino", "fp32")),
        ({"precision": "fp32"}, LAPTOP, ("mnn", "fp32")),
        ({"precision": "int8"}, LAPTOP, ("openvino", "int8")),
    ],
)
def test_int8_without_vnni(asked: dict[str, object], hardware: Hardware, expected: tuple[str, str]) -> None:
    """With AVX2 or AVX-512 alone OpenVINO's int8 comes before MNN's fp32, for models that keep their quality in it."""
    choice = choose_engine(EngineSettings.model_validate(asked), ".onnx", hardware, ("int8", "bf16"))
    assert (choice.engine, choice.precision) == expected


@pytest.mark.parametrize("measured", [None, Winner("mnn", "fp32", "2025-11-29")])
@pytest.mark.parametrize(
    ("asked", "hardware", "photos", "expected"),
    [
        ({}, LAPTOP, FEW_PHOTOS, "openvino"),
        ({}, LAPTOP, FEW_PHOTOS + 1, "mnn"),
        ({}, LAPTOP, None, "mnn"),
        ({"engine": "mnn"}, LAPTOP, 1, "mnn"),
        ({}, replace(LAPTOP, packages={"MNN": "3.6.1", "onnx": "1.23.2"}), 1, "mnn"),
    ],
)
def test_few_photos_want_a_short_start(
    asked: dict[str, object], hardware: Hardware, photos: int | None, expected: str, measured: Winner | None
) -> None:
    """Where MNN would be taken, a few photos get OpenVINO, which starts sooner, and the reason says so."""
    choice = choose_engine(EngineSettings.model_validate(asked), ".onnx", hardware, (), measured, photos)
    assert choice.engine == expected
    assert choice.precision == "fp32"
    assert ("starts sooner" in choice.reason) == (expected == "openvino")


def test_idle_gpu_is_mentioned() -> None:
    """A GPU that no installed engine can use is named in the reason."""
    assert "H100 is idle" in choose_engine(EngineSettings(), ".onnx", H100_CPU_BUILD).reason


def test_this_machine() -> None:
    """Looking at the machine finds at least one core and loads no engine."""
    hardware = inspect_hardware()
    assert hardware.cores >= 1
    assert hardware.cpu_name


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/job", "sys/fs/cgroup/job/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1),
        ({"proc/self/cgroup": "0::/gone", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "3:cpu,cpuacct:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"}, 1),
        ({"proc/self/cgroup": "3:cpu,cpuacct:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, None),
        ({}, None),
    ],
)
def test_cores_within_quota(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    """A container's quota, at any level of its control groups, limits the cores; none leaves them all."""
    for name, text in (files | {"sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == (expected or usable_cores(tmp_path / "nowhere"))


def test_processor_flags(tmp_path: Path) -> None:
    """Name and instruction sets are read from Linux's description, for Intel and for ARM."""
    (tmp_path / "x86").write_text("model name\t: Xeon\nflags\t\t: fpu amx_tile amx_bf16\n\nmodel name\t: other\n")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    name, flags = read_cpu(tmp_path / "x86")
    assert (name, "amx_bf16" in flags) == ("Xeon", True)
    assert "bf16" in read_cpu(tmp_path / "arm")[1]


@pytest.mark.parametrize("hidden", ["", "-1", "none"])
def test_hidden_gpus_do_not_count(hidden: str) -> None:
    """GPUs that the environment hides from the process are not reported."""
    assert list_cuda_gpus(hidden) == ()


def _import_mnn() -> None:
    """Skip the test without MNN; loaded by the engine itself, which keeps what MNN prints from pytest."""
    if "MNN" not in inspect_hardware().packages:
        pytest.skip("MNN is not installed")


def _network(path: Path, size_px: int, *, batch: int | str = 1, scale: float = 1.0, channels: int = 1) -> Path:
    """Write a small graph: the sigmoid of the sum of the channels, times ``scale``, with a second output."""
    onnx = pytest.importorskip("onnx")
    helper, tensors = onnx.helper, onnx.numpy_helper
    weight = tensors.from_array(np.ones((channels, 3, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["probs"]),
        helper.make_node("Mul", ["probs", "scale"], ["out"]),
        helper.make_node("Relu", ["sum"], ["side"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", 1, [batch, 3, size_px, size_px])],
        [helper.make_tensor_value_info(name, 1, [batch, channels, size_px, size_px]) for name in ("out", "side")],
        [weight, tensors.from_array(np.float32(scale), "scale")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def _expected(batch: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-batch.sum(1)))).astype(np.float32)


@pytest.fixture(params=["openvino", "onnxruntime", "mnn"])
def build(request: pytest.FixtureRequest) -> Callable[[Path, int], object]:
    """Return a function that builds an engine in fp32 on the CPU."""
    if request.param == "mnn":
        _import_mnn()
    else:
        pytest.importorskip(request.param)
    choice = EngineChoice(request.param, "cpu", "fp32", 1, "test")
    return lambda path, size_px: create_engine(choice, path, size_px)


@pytest.mark.parametrize(("batch", "side"), [(1, 32), ("n", 32), (4, 32), (1, 64)])
def test_engines_take_any_batch(build: Callable[..., object], tmp_path: Path, batch: int | str, side: int) -> None:
    """Any number of pictures runs, whatever batch and side the file fixes, and only the first output counts."""
    engine = build(_network(tmp_path / "n.onnx", side, batch=batch), 32)
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    probs = engine.infer(images)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, _expected(images), atol=1e-5)
    assert np.array_equal(engine.infer(images[1:2]), probs[1:2])
    assert (engine.device, engine.precision, engine.threads) == ("cpu", "fp32", 1)


def test_engines_are_safe_in_threads(build: Callable[..., object], tmp_path: Path) -> None:
    """Several threads that share an engine each get their own result."""
    engine = build(_network(tmp_path / "n.onnx", 64), 64)
    wrong: list[int] = []

    def work(seed: int) -> None:
        images = np.random.default_rng(seed).standard_normal((2, 3, 64, 64)).astype(np.float32)
        for _ in range(20):
            if not np.allclose(engine.infer(images), _expected(images), atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 3, 32, 32), np.float32),
        np.zeros((1, 3, 32, 31), np.float32),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((1, 3, 32, 32), np.float64),
    ],
)
def test_wrong_input_is_refused(build: Callable[..., object], tmp_path: Path, images: np.ndarray) -> None:
    """A batch of another shape or number format is an error."""
    with pytest.raises(EngineError, match=r"(?i)the input is"):
        build(_network(tmp_path / "n.onnx", 32), 32).infer(images)


@pytest.mark.parametrize(
    ("scale", "channels", "message"), [(9.0, 1, "goes from"), (1.0, 3, "shape"), (np.nan, 1, "nan")]
)
def test_output_must_be_probabilities(
    build: Callable[..., object], tmp_path: Path, scale: float, channels: int, message: str
) -> None:
    """Values outside [0, 1], NaN, and several classes are errors, not masks."""
    network = _network(tmp_path / "n.onnx", 32, scale=scale, channels=channels)
    # MNN's engine runs the network when it is built, to compare it with the original.
    with pytest.raises(EngineError, match=message):
        build(network, 32).infer(np.full((1, 3, 32, 32), 2.0, np.float32))


def test_unreadable_file(build: Callable[..., object], tmp_path: Path) -> None:
    """A file that is not ONNX is an error of the engine, not of the library below it."""
    (tmp_path / "n.onnx").write_bytes(b"not a network")
    with pytest.raises(EngineError, match=r"n\.onnx"):
        build(tmp_path / "n.onnx", 32)


def test_gpu_that_is_not_used_is_an_error(tmp_path: Path) -> None:
    """ONNX Runtime without CUDA does not silently take the CPU in its place."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    choice = EngineChoice("onnxruntime", "cuda", "fp32", 1, "test")
    with pytest.raises(EngineUnavailableError, match=r"cutray\[gpu\]"):
        create_engine(choice, _network(tmp_path / "n.onnx", 32), 32)


def test_pytorch_engine(tmp_path: Path) -> None:
    """PyTorch turns the first output of a module, logits, into probabilities."""
    torch = pytest.importorskip("torch")

    class Sum(torch.nn.Module):
        def forward(self, x: object) -> tuple[object, object]:
            return x.sum(1, keepdim=True), x

    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    engine = create_engine(EngineChoice("pytorch", "cpu", "fp32", 1, ""), tmp_path, 32, load_module=Sum)
    np.testing.assert_allclose(engine.infer(images), _expected(images), atol=1e-6)
    with pytest.raises(EngineError, match="load_module"):
        create_engine(EngineChoice("pytorch", "cpu", "fp32", 1, ""), tmp_path, 32)


def test_pytorch_folds_norms_and_keeps_the_answer(tmp_path: Path) -> None:
    """Without its batch normalisations the network answers alike, in half the bytes nearly so; a graph needs a GPU."""
    torch = pytest.importorskip("torch")
    from cutray.engines.pytorch import fold_norms
    from cutray.models.u2net import ConvNormRelu

    torch.manual_seed(0)
    network = torch.nn.Sequential(ConvNormRelu(3, 8), ConvNormRelu(8, 8, dilation=2), torch.nn.Conv2d(8, 1, 1))
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        network.train()(torch.from_numpy(images))  # gives the norms statistics
        wanted = network.eval()(torch.from_numpy(images)).sigmoid()[:, 0].numpy()
    for precision, error in (("fp32", 1e-5), ("bf16", 0.02)):
        choice = EngineChoice("pytorch", "cpu", precision, 1, "", cuda_graph=True)
        engine = create_engine(choice, tmp_path, 32, load_module=lambda: copy.deepcopy(network))
        np.testing.assert_allclose(engine.infer(images), wanted, atol=error)
    kinds = {type(part) for part in fold_norms(network).modules()}
    assert torch.nn.BatchNorm2d not in kinds
