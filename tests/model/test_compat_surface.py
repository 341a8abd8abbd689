"""The public surface of rembg 2.0.86: each name, argument and kind of value that programs use."""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.compat import new_session, remove
from cutray.compat.providers import parse_providers
from cutray.compat.sessions import BaseSession, sessions_names
from cutray.errors import EngineUnavailableError, InputError, OptionError, UnknownModelError
from tests.pictures import exif_with, saved

MODEL = "u2netp-distilled"
# In the order in which they may be given without their names.
REMOVE = (
    "data alpha_matting alpha_matting_foreground_threshold alpha_matting_background_threshold alpha_matting_erode_size "
    "session only_mask post_process_mask decontaminate vitmatte vitmatte_model bgcolor force_return_bytes"
)
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def session() -> BaseSession:
    """Return a session with the packaged model."""
    return new_session(MODEL, offline=True)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Return a photo of an orange square on blue."""
    image = Image.new("RGB", (160, 120), "steelblue")
    image.paste("orange", (50, 30, 110, 90))
    return np.asarray(image)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("cutray.compat", "remove new_session __version__"),
        ("cutray.compat.bg", "remove"),
        ("cutray.compat.session_factory", "new_session"),
        ("cutray.compat.sessions", "sessions sessions_class sessions_names"),
        ("cutray.compat.sessions", "sessions_names_downloadable sessions_names_no_credentials"),
        ("cutray.compat.sessions.base", "BaseSession"),
    ],
)
def test_names_are_where_programs_import_them(module: str, names: str) -> None:
    """Whatever stands behind `rembg` in an import stands behind `cutray.compat`."""
    assert all(hasattr(importlib.import_module(module), name) for name in names.split())


def test_arguments_have_their_places() -> None:
    """Programs that name no argument are understood too."""
    parameters = inspect.signature(remove).parameters.values()
    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == REMOVE.split()
    defaults = {one.name: one.default for one in parameters}
    assert [defaults[name] for name in REMOVE.split()[1:5]] == [False, 240, 10, 10]
    assert list(inspect.signature(new_session).parameters)[:2] == ["model_name", "args"]


@pytest.mark.parametrize(
    "providers",
    [
        None,
        [],
        [CPU],
        (CPU,),
        CPU,
        ["AzureExecutionProvider", CPU],
        ["OpenVINOExecutionProvider", CPU],
        [("OpenVINOExecutionProvider", {"device_type": "CPU"}), CPU],
        [(CPU, {})],
    ],
)
def test_what_can_be_had_raises_no_warning(providers: Any) -> None:
    """Lists that a machine without GPU can honour are honoured in silence."""
    pytest.importorskip("openvino")
    made = new_session(MODEL, providers=providers)
    assert made.segmenter.engine.device in ("cpu", "cuda")
    if providers:
        assert made.inner_session.get_providers()[-1] == CPU


def test_what_is_available_is_accepted() -> None:
    """The list that ONNX Runtime itself gives is taken without a warning."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("with a GPU the list names what this machine may not have")
    assert new_session(MODEL, providers=onnxruntime.get_available_providers()).segmenter.engine.device == "cpu"


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        (["TensorrtExecutionProvider", CUDA, CPU], "TensorrtExecutionProvider: .*GPU.*CUDAExecutionProvider: .*cpu"),
        (["TensorrtExecutionProvider"], "TensorrtExecutionProvider"),
        ([CUDA], "runs with .* on cpu"),
        ([(CUDA, {"device_id": 0, "gpu_mem_limit": 1 << 30}), CPU], "gpu_mem_limit has no effect"),
        ([(CUDA, {"device_id": 1})], "device_id has no effect"),
        ([[CUDA, {"device_id": "0"}], CPU], "no NVIDIA GPU"),
        (["CoreMLExecutionProvider", CPU], "there is no CoreMLExecutionProvider here"),
        (["DmlExecutionProvider", "ROCMExecutionProvider"], "DmlExecutionProvider here; there is no ROCM"),
        (["cuda"], "there is no cuda here"),
        ([(CPU, {"arena_extend_strategy": "kSameAsRequested"})], "arena_extend_strategy has no effect"),
    ],
)
def test_what_cannot_be_had_is_named_in_a_warning(
    providers: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next in the list is used, and the program goes on."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.warns(RuntimeWarning, match=message):
        assert new_session(MODEL, providers=providers).segmenter.engine.device == "cpu"


@pytest.mark.parametrize("providers", [1, [1], [None], [(CUDA, 1)], {CPU: {}}, [(CPU, {}, {})]])
def test_what_is_no_list_of_providers_is_an_error(providers: Any) -> None:
    """A wrong kind is a mistake of the program."""
    with pytest.raises(OptionError, match="providers hold"):
        new_session(MODEL, providers=providers)


def test_gpu_comes_first_where_it_is_named_first() -> None:
    """The order of the list is that of the attempts, and the CPU is always the last."""
    found = parse_providers(["TensorrtExecutionProvider", (CUDA, {"device_id": 0})])
    assert [(one.name, one.settings) for one in found] == [
        ("TensorrtExecutionProvider", {"device": "cuda"}),
        (CUDA, {"device": "cuda"}),
        (CPU, {"device": "cpu"}),
    ]


def test_explicit_device_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutray's own word for the device keeps its meaning: had, or an error."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for providers in (None, [CUDA, CPU], [CPU, "CoreMLExecutionProvider"]):
        with pytest.raises(EngineUnavailableError, match="no NVIDIA GPU"):
            new_session(MODEL, providers=providers, device="cuda")


@pytest.mark.parametrize(("asked", "variable", "threads"), [(1, "2", 1), (0, "1", 1), (None, "1", 1)])
def test_threads(asked: int | None, variable: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Session options count before OMP_NUM_THREADS."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    options = onnxruntime.SessionOptions() if asked is not None else None
    if options:
        options.intra_op_num_threads = asked
    assert new_session(MODEL, sess_opts=options).segmenter.choice.threads == threads


def test_session_predicts(session: BaseSession, photo: np.ndarray) -> None:
    """It gives a list with one mask of the photo's size, which is the one that remove uses."""
    masks = session.predict(Image.fromarray(photo))
    assert [(mask.mode, mask.size) for mask in masks] == [("L", (160, 120))]
    assert np.array_equal(np.asarray(masks[0]), remove(photo, session=session, only_mask=True))
    for mode in ("RGBA", "L", "P", "1"):
        assert session.predict(Image.fromarray(photo).convert(mode))[0].size == (160, 120)
    lying = Image.open(io.BytesIO(saved(photo, "PNG", exif=exif_with(6))))
    assert session.predict(lying)[0].size == lying.size
    with pytest.raises(OptionError, match="sam_prompt"):
        session.predict(Image.fromarray(photo), sam_prompt=[])


def test_session_has_the_attributes_of_rembgs(session: BaseSession, photo: np.ndarray) -> None:
    """The network can be run by hand, as classes derived from rembg's do."""
    assert session.model_name == session.name() == MODEL
    assert session.download_models().endswith(".onnx")
    assert (session.is_local(), session.requires_credentials(), session.has_usage_cost()) == (True, False, False)
    inner = session.inner_session
    feed = session.normalize(Image.fromarray(photo), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (320, 320))
    assert list(feed) == [inner.get_inputs()[0].name]
    (probs,) = inner.run(None, feed)
    assert (probs.shape, probs.dtype) == ((1, 1, 320, 320), np.float32)
    low, high = probs.min(), probs.max()
    mask = Image.fromarray(((probs[0, 0] - low) / (high - low) * 255).astype(np.uint8)).resize((160, 120), 1)
    difference = np.abs(np.asarray(mask).astype(int) - np.asarray(session.predict(Image.fromarray(photo))[0]))
    assert difference.mean() < 0.5
    assert inner.get_outputs()[0].shape[1] == 1


@pytest.mark.parametrize("option", ["vitmatte", "alpha_matting", "decontaminate", "putalpha"])
def test_ways_to_cut_out(option: str, session: BaseSession, photo: np.ndarray) -> None:
    """Each gives the plain mask as alpha; what is not here says so."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cutout = remove(photo, session=session, **{option: True})  # type: ignore[arg-type]
    assert [one.category for one in told] == ([RuntimeWarning] if option == "vitmatte" else [])
    assert np.array_equal(cutout[..., 3], remove(photo, session=session, only_mask=True))
    if option == "putalpha":
        assert np.array_equal(cutout[..., :3], photo)
    assert np.array_equal(remove(photo, session=session, **{option: False}), remove(photo, session=session))  # type: ignore[arg-type]


def test_kinds_of_data(session: BaseSession, photo: np.ndarray) -> None:
    """Whatever holds bytes gives bytes; other kinds are a ValueError, as in the original."""
    data = saved(photo, "PNG")
    expected = remove(data, session=session)
    assert remove(bytearray(data), session=session) == remove(memoryview(data), session=session) == expected
    assert remove(photo, False, 240, 10, 10, session, False, False, False, False, None, None, True) == expected
    for wrong in ("photo.png", 1, None):
        with pytest.raises(ValueError, match="type") as caught:
            remove(wrong, session=session)  # type: ignore[arg-type]
        assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("name", ["nonsense", "u2net_custom", "dis_custom", "ben_custom"])
def test_unknown_sessions(name: str) -> None:
    """A name that is not there, or needs a path that is not given, is an error of ours."""
    with pytest.raises((UnknownModelError, OptionError)):
        new_session(name, offline=True)
    with pytest.raises(ValueError, match="nonsense"):
        new_session("nonsense")


def test_own_files_have_any_label(session: BaseSession) -> None:
    """Rembg's names for own files take a path."""
    made = new_session("u2net_custom", model_path=session.download_models())
    assert made.segmenter.weights.sha256 == session.segmenter.weights.sha256
    with pytest.raises(OptionError, match="described as a U²-Net"):
        new_session("dis_custom", model_path=session.download_models())


def test_list_of_sessions_is_what_can_be_loaded() -> None:
    """Names and classes belong together."""
    assert MODEL in sessions_names
    assert "u2net" in sessions_names


def test_errors_survive_pickling() -> None:
    """They travel between processes like all others."""
    with pytest.raises(UnknownModelError) as caught:
        new_session("nonsense")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
