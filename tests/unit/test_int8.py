"""Eight bits: who may have them, which statistics are found, and how close the result is to the original."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cutray.cli import cli
from cutray.config import EngineSettings
from cutray.console.run import run
from cutray.engines import openvino as openvino_engine
from cutray.engines.create import create_engine
from cutray.engines.hardware import Hardware, inspect_hardware
from cutray.engines.int8 import CalibrationStats, convolutions, encode_stats, quantise, read_stats, smooth_scales
from cutray.engines.select import EngineChoice, choose_engine
from cutray.errors import EngineUnavailableError
from cutray.models.catalog import list_models
from cutray.models.int8_stats import find_stats
from cutray.models.weights import Weights, resolve
from cutray.segmenter import Segmenter

SIDE_PX = 320
PACKAGES = {"openvino": "2026.4.1", "onnxruntime": "1.32.0", "torch": "2.13.0"}
VNNI = Hardware(2, "EPYC", avx512_vnni=True, avx512_bf16=True, packages=PACKAGES)
GPU = Hardware(2, "EPYC", avx512_vnni=True, cuda_gpus=("H100",), packages=PACKAGES | {"onnxruntime-gpu": "1.32.0"})
needs_int8 = pytest.mark.skipif(not inspect_hardware().computes_in_int8, reason="the processor has no VNNI")


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the small network."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "home"))
    return _write_network(tmp_path / "own.onnx")


def _write_network(path: Path, *, half: bool = False) -> Path:
    """Write a network of four convolutions, of which the middle two have enough channels for eight bits.

    The channels between them differ in size by a factor of a thousand.

    Args:
        path: The file.
        half: Compute in half precision between the input and the output, as some published files do.
    """
    onnx = pytest.importorskip("onnx")
    rng, helper = np.random.default_rng(0), onnx.helper
    nodes, stored, last, widths = [], [], "x", (3, 16, 16, 16, 1)
    for index, (width_in, width) in enumerate(itertools.pairwise(widths)):
        weights = rng.standard_normal((width, width_in, 3, 3)) / np.sqrt(9 * width_in)
        if index == 1:
            weights *= np.geomspace(0.03, 30, width)[:, None, None, None]
        if index == 2:
            weights /= np.geomspace(0.03, 30, width_in)[:, None, None]
        if width == 1:
            weights *= 5
        stored.append(onnx.numpy_helper.from_array(weights.astype(np.float16 if half else np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        last = f"a{index}"
        nodes.append(helper.make_node("Sigmoid" if width == 1 else "Relu", [f"c{index}"], [last]))
    if half:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["h"], to=onnx.TensorProto.FLOAT16))
        nodes[1].input[0] = "h"
        nodes.append(helper.make_node("Cast", [last], ["y"], to=onnx.TensorProto.FLOAT))
        last = "y"
    values = [helper.make_tensor_value_info(n, 1, [1, c, SIDE_PX, SIDE_PX]) for n, c in (("x", 3), (last, 1))]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with three pictures of soft noise."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(3):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((200, 160)).save(folder / f"{index}.png")
    return folder


def _calibrate(model: Path, photos: Path, *more: str) -> int:
    calibrate = pytest.importorskip("pipelines.calibrate").calibrate
    return run(calibrate, ["--model", str(model), "--images", str(photos), *more])


def _engine(path: Path, precision: str, stats: Path | None = None) -> object:
    return create_engine(EngineChoice("openvino", "cpu", precision, 1, "test"), path, SIDE_PX, stats=stats)


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("hardware", [VNNI, GPU, Hardware(1, avx_vnni=True, packages=PACKAGES)])
def test_int8_is_had_when_asked_for(hardware: Hardware, device: str) -> None:
    """A processor with VNNI computes in int8, with OpenVINO and even beside a GPU."""
    asked = EngineSettings(precision="int8", device=device)
    choice = choose_engine(asked, ".onnx", hardware)
    assert (choice.engine, choice.device, choice.precision) == ("openvino", "cpu", "int8")


@pytest.mark.parametrize(
    ("hardware", "allowed_precisions", "expected"),
    [
        (VNNI, ("int8", "bf16"), "int8"),
        (Hardware(1, avx512_vnni=True, packages=PACKAGES), ("bf16",), "fp32"),
        (Hardware(1, avx512_bf16=True, avx512_vnni=True, packages=PACKAGES), ("bf16",), "bf16"),
        (Hardware(1, avx512_bf16=True, packages=PACKAGES), ("int8", "bf16"), "bf16"),
        (Hardware(1, avx512_bf16=True, avx512_vnni=True, packages=PACKAGES), (), "fp32"),
        (Hardware(1, avx512_vnni=True, packages={"onnxruntime": "1"}), ("int8", "bf16"), "fp32"),
        (GPU, ("int8", "bf16"), "fp32"),
    ],
)
def test_auto_keeps_the_models_quality(hardware: Hardware, allowed_precisions: tuple[str, ...], expected: str) -> None:
    """Unasked, a processor computes in the first format that it has and that the model bears."""
    assert choose_engine(EngineSettings(), ".onnx", hardware, allowed_precisions).precision == expected


@pytest.mark.parametrize(
    ("model", "formats"), [("u2net", "int8, bf16, fp32;"), ("isnet", "int8, bf16, fp32;"), ("u2netp", "fp32;")]
)
def test_show_names_the_formats_that_keep_the_quality(model: str, formats: str) -> None:
    """`cutray models show` says in which number formats auto runs a model, and auto takes the first one."""
    shown = CliRunner().invoke(cli, ["models", "show", model]).output
    assert f"formats      {formats}" in shown
    allowed = next(spec for spec in list_models() if spec.name == model).cpu_precisions
    hardware = Hardware(1, avx512_bf16=True, avx512_vnni=True, packages=PACKAGES)
    assert choose_engine(EngineSettings(), ".onnx", hardware, allowed).precision == formats.split(",")[0].strip(";")


@pytest.mark.parametrize(
    ("asked", "suffix", "hardware", "message"),
    [
        ({}, ".onnx", Hardware(1, "Core i7", packages=PACKAGES), "on Core i7 it is not known to be fast"),
        ({}, ".onnx", Hardware(1, avx512_vnni=True, packages={"onnxruntime": "1"}), "pip install openvino"),
        ({}, ".pth", VNNI, "pytorch does not compute in int8"),
        ({"engine": "onnxruntime"}, ".onnx", VNNI, "onnxruntime does not compute in int8"),
        ({"device": "cuda"}, ".onnx", GPU, "does not compute in int8 on cuda"),
    ],
)
def test_int8_is_refused(asked: dict[str, str], suffix: str, hardware: Hardware, message: str) -> None:
    """Where int8 is not to be had, the error says why."""
    with pytest.raises(EngineUnavailableError, match=message):
        choose_engine(EngineSettings.model_validate({"precision": "int8", **asked}), suffix, hardware)


@needs_int8
@pytest.mark.parametrize("half", [False, True])
def test_result_is_close_to_the_original(own_file: Path, photos: Path, half: bool) -> None:
    """After calibration the command's own file runs in int8, close to fp32 although channels differ widely."""
    _write_network(own_file, half=half)
    assert _calibrate(own_file, photos) == 0
    segmenter = Segmenter.load(EngineSettings(model=str(own_file), precision="int8", engine="openvino"))
    assert segmenter.engine.precision == "int8"
    images = [np.asarray(Image.open(photo)) for photo in sorted(photos.iterdir())]
    exact = Segmenter.load(EngineSettings(model=str(own_file), precision="fp32", engine="openvino")).segment(images)
    difference = np.array(segmenter.segment(images)) - np.array(exact)
    assert np.std(exact) > 0.1
    assert np.abs(difference).mean() < 0.004
    assert abs(difference.mean()) < 0.001


def test_middle_convolutions_are_quantised(own_file: Path, photos: Path) -> None:
    """Eight bits are for convolutions with many channels: not for the first and the last one."""
    import openvino

    assert _calibrate(own_file, photos) == 0
    stats = read_stats(find_stats(resolve(str(own_file))))
    assert list(stats.peaks) == ["w1", "w2"]
    network = openvino.Core().read_model(own_file)
    assert list(convolutions(network)) == ["w1", "w2"]
    quantise(network, stats)
    kinds = [node.get_type_name() for node in network.get_ordered_ops()]
    assert kinds.count("FakeQuantize") == 2


def test_compiled_network_is_kept(
    own_file: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second load compiles nothing, with other threads either, and computes the same; damage makes it anew."""
    assert _calibrate(own_file, photos) == 0
    picture = np.random.default_rng(0).standard_normal((1, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    made: list[object] = []

    def count(*arguments: object) -> None:
        made.append(arguments)
        quantise(*arguments)

    def load(threads: int = 1) -> np.ndarray:
        choice = EngineChoice("openvino", "cpu", "int8", threads, "test")
        stats = own_file.with_suffix(".int8.npz")
        cache = tmp_path / "cache"
        return create_engine(choice, own_file, SIDE_PX, stats=stats, sha256="a" * 64, cache_dir=cache).infer(picture)

    monkeypatch.setattr(openvino_engine, "quantise", count)
    first = load()
    (kept,) = (tmp_path / "cache" / "openvino").iterdir()
    assert np.array_equal(load(), first)
    assert len(made) == 1
    kept.write_bytes(kept.read_bytes()[:-100])
    assert np.array_equal(load(), first)
    assert len(made) == 2
    assert np.array_equal(load(threads=2), first)
    assert len(made) == 2
    assert list(kept.parent.iterdir()) == [kept]


def test_rare_large_values_do_not_widen_the_range() -> None:
    """A channel that rarely exceeds a twentieth of its peak gets a small range; one that often does keeps all of it."""
    choose_ranges = pytest.importorskip("pipelines.calibrate").choose_ranges
    shares = np.array([1, 0.75, 0.55, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05])
    rare = 1e-7 * np.square(1 - shares)  # one value in ten million is the peak, all others are small
    often = np.maximum(1 - shares, 0) ** 3 / 3  # evenly spread
    ranges = choose_ranges(np.array([100, 100], np.float32), 100**2 * np.array([rare, often]).T, 64)
    assert ranges.tolist() == [5, 100]


def test_ranges_of_isnet_are_chosen(own_file: Path) -> None:
    """An IS-Net's ranges are shares of the largest values, which other networks keep; all else is the same."""
    measure = pytest.importorskip("pipelines.calibrate").measure
    weights = resolve(str(own_file))
    picture = np.random.default_rng(0).standard_normal((3, SIDE_PX, SIDE_PX)).astype(np.float32)
    picture[:, 7, 7] = 1000  # one bright point
    heavy = replace(weights, spec=replace(weights.spec, architecture="isnet"))
    plain, chosen = (measure(one, lambda: [picture]) for one in (weights, heavy))
    for name, peaks in plain.peaks.items():
        np.testing.assert_array_equal(chosen.means[name], plain.means[name])
        assert (chosen.peaks[name] <= peaks).all()
        assert chosen.peaks[name].min() < 0.5 * peaks.min()


def test_calibration_is_repeatable(own_file: Path, photos: Path, tmp_path: Path) -> None:
    """The same photos give the same statistics, byte by byte, and fewer photos other ones."""
    for name, more in (("one", []), ("two", []), ("three", ["--count", "1"])):
        assert _calibrate(own_file, photos, "--out", str(tmp_path / name), *more) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "three").read_bytes()


def test_only_photos_are_measured(
    own_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What else lies in the folder changes nothing; a photo that cannot be read is named, and nothing is written."""
    assert _calibrate(own_file, photos, "--out", str(tmp_path / "one")) == 0
    for name in ("Thumbs.db", "notes.txt", "0.hints.json"):
        (photos / name).write_bytes(b"no photo")
    assert _calibrate(own_file, photos, "--out", str(tmp_path / "two")) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    (photos / "3.jpg").write_bytes(b"no photo")
    assert _calibrate(own_file, photos, "--out", str(tmp_path / "three")) == 1
    assert f"{photos / '3.jpg'} cannot be used: the content is" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()
    for path in photos.glob("*.[pj][np]g"):
        path.unlink()
    assert _calibrate(own_file, photos, "--out", str(tmp_path / "three")) == 1
    assert "holds no photos" in capsys.readouterr().err


def test_missing_statistics_say_what_to_do(own_file: Path, photos: Path) -> None:
    """Weights without statistics, or with those of other weights, name the models that have them and the command."""
    weights = resolve(str(own_file))
    with pytest.raises(
        EngineUnavailableError,
        match=r"u2net, u2net-lean, u2net-lean-288, u2netp, isnet .*pipelines\.calibrate --model .*own\.onnx",
    ):
        find_stats(weights)
    assert _calibrate(own_file, photos) == 0
    assert find_stats(weights) == own_file.with_name("own.int8.npz")
    with pytest.raises(EngineUnavailableError, match="made for other weights"):
        find_stats(Weights(weights.spec, weights.path, "0" * 64))


@pytest.mark.parametrize(
    ("name", "layers", "shifted"), [("u2net", 111, 0), ("u2net-lean", 211, 75), ("u2netp", 111, 0), ("isnet", 111, 0)]
)
def test_packaged_statistics(name: str, layers: int, shifted: int) -> None:
    """The published weights have small statistics in the package, which name their hash and are sound."""
    spec = next(spec for spec in list_models() if spec.name == name)
    path = find_stats(Weights(spec, Path(spec.file), spec.sha256))
    stats = read_stats(path)
    assert path.stat().st_size <= 100_000
    assert stats.sha256 == spec.sha256
    assert (len(stats.peaks), len(stats.lows)) == (layers, shifted)
    for layer, peaks in stats.peaks.items():
        assert np.isfinite(peaks).all()
        assert (stats.means[layer] >= stats.lows.get(layer, 0)).all()
        assert (stats.means[layer] <= peaks).all()


def test_unusable_statistics_are_refused(own_file: Path, tmp_path: Path) -> None:
    """No statistics, a file without any, and those of another network are errors that name the command."""
    values = {"w1": np.ones(7, np.float32)}
    (tmp_path / "other").write_bytes(encode_stats(CalibrationStats("0" * 64, values, values)))
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "text").write_text("no statistics")
    for stats in (None, *(tmp_path / name for name in ("other", "damaged", "text", "missing"))):
        with pytest.raises(EngineUnavailableError, match=r"pipelines\.calibrate"):
            _engine(own_file, "int8", stats)


def test_statistics_are_not_replaced_unasked(own_file: Path, photos: Path) -> None:
    """A file in the place of the statistics stays as it is, until replacing it is allowed."""
    target = own_file.with_suffix(".int8.npz")
    target.write_bytes(b"mine")
    assert _calibrate(own_file, photos) == 2
    assert target.read_bytes() == b"mine"
    assert _calibrate(own_file, photos, "--overwrite") == 0
    assert target.read_bytes() != b"mine"


def test_smooth_scales_keep_channels_within_range() -> None:
    """Divided by its scale no channel exceeds 1, the largest reaches it, and dead channels do no harm."""
    rng = np.random.default_rng(0)
    peaks = np.r_[rng.uniform(0.01, 50, 15), 0.0].astype(np.float32)
    weights = rng.standard_normal((8, 16, 3, 3)).astype(np.float32)
    weights[:, 3] = 0
    weight_peaks = np.abs(weights).max((2, 3))
    scaled = peaks / smooth_scales(peaks, weight_peaks)
    assert scaled.max() == pytest.approx(1)
    assert np.isfinite(scaled).all()
    assert (smooth_scales(peaks, weight_peaks) > 0).all()
