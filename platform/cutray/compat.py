"""The library calls of rembg, answered by Cutray: change one import and keep the rest of the program.

>>> from cutray.compat import new_session, remove  # doctest: +SKIP
>>> cutout = remove(photo, session=new_session("u2net"))  # doctest: +SKIP

The mask is made by the classic recipe in fp32, so it is the one that such a program has got so far, empty scenes
included (``new_session(precision="auto")`` is faster and up to 2/255 off on average). What differs, on purpose:

* Soft edges keep the photo's own colours instead of being darkened by a second multiplication with alpha.
* ``alpha_matting`` takes the old background's colour out of soft edges instead of solving for a new alpha channel;
  its three numbers are checked and have no further effect.
* A colour profile is converted to sRGB, grey photos work, and damaged or oversized files raise ``InputError``.
* An argument that has no meaning here is an error, never ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cutray.config import EngineSettings
from cutray.errors import InputError, OptionError
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import encode_image
from cutray.matting.alpha import classic_alpha
from cutray.matting.foreground import estimate_foreground
from cutray.remover import BackgroundRemover

Data = bytes | Image.Image | np.ndarray

# ONNX Runtime's names, as programs spell them, and the engine settings they stand for.
_PROVIDERS = {
    "CPUExecutionProvider": {"device": "cpu"},
    "CUDAExecutionProvider": {"device": "cuda"},
    "OpenVINOExecutionProvider": {"engine": "openvino", "device": "cpu"},
}


def new_session(
    model_name: str = "u2net", *args: Any, providers: Sequence[Any] | None = None, sess_opts: Any = None, **kwargs: Any
) -> BackgroundRemover:
    """Load a model once; the result is Cutray's own remover, with all that it can do besides.

    Args:
        model_name: See ``cutray models list``; with ``model_path`` it is only a label.
        providers: ONNX Runtime's names in order of preference; CUDA without CPU makes a GPU compulsory.
        sess_opts: ONNX Runtime's session options; only ``intra_op_num_threads`` is used.
        kwargs: ``model_path``, or any field of ``cutray.config.EngineSettings`` but the model.

    Raises:
        OptionError: An argument or provider is unknown.
        CutrayError: As ``BackgroundRemover`` does.
    """
    known = {"model_path", *EngineSettings.model_fields} - {"model"}
    _refuse_unknown(
        [*map(repr, args), *(kwargs.keys() - known)], f"model_name, providers, sess_opts, {', '.join(known)}"
    )
    settings = {
        "precision": "fp32",
        "threads": getattr(sess_opts, "intra_op_num_threads", 0),
        **_parse_providers(providers),
    }
    model = kwargs.pop("model_path", model_name)
    return BackgroundRemover(model, **{**settings, **kwargs})


def remove(
    data: Data,
    alpha_matting: bool = False,
    alpha_matting_foreground_threshold: int = 240,
    alpha_matting_background_threshold: int = 10,
    alpha_matting_erode_size: int = 10,
    session: BackgroundRemover | None = None,
    only_mask: bool = False,
    post_process_mask: bool = False,
    decontaminate: bool = False,
    bgcolor: tuple[int, ...] | None = None,
    force_return_bytes: bool = False,
    **kwargs: Any,
) -> Any:
    """Cut the subject out of a photo.

    Args:
        data: Encoded bytes, a Pillow image, or an (H, W[, 1|3|4]) array of sRGB samples.
        alpha_matting: As ``decontaminate``.
        alpha_matting_foreground_threshold: 0 to 255; this and the next two are checked and not used.
        alpha_matting_background_threshold: 0 to 255.
        alpha_matting_erode_size: 0 or more pixels.
        session: What ``new_session`` returned; u2net, loaded once, by default.
        only_mask: Give the mask (mode L) instead of the cutout.
        post_process_mask: Smooth the outline and harden it to 0 and 255.
        decontaminate: Take the old background's colour out of soft edges.
        bgcolor: Red, green, blue and optionally opacity in 0–255, laid under the subject; the result stays RGBA.
        force_return_bytes: Give PNG bytes whatever was put in.

    Returns:
        The straight RGBA cutout, or the mask, as PNG bytes for bytes, a Pillow image for one, else a uint8 array.

    Raises:
        InputError: The photo or an argument cannot be used.
        EngineError: The network failed.
    """
    _refuse_unknown(list(kwargs), "those in the documentation of this function")
    numbers = (alpha_matting_foreground_threshold, alpha_matting_background_threshold, alpha_matting_erode_size)
    if min(numbers) < 0 or max(numbers[:2]) > 255:
        raise OptionError(f"alpha matting numbers {numbers}", "0-255, 0-255, and 0 or more", "correct them")
    if bgcolor is not None and not (len(bgcolor) in (3, 4) and all(part in range(256) for part in bgcolor)):
        raise OptionError(f"bgcolor={bgcolor!r}", "three or four whole numbers in 0-255", "correct the colour")
    session = session or _default_session()
    image = _decode(data, session)
    (probs,) = session.segmenter.segment([image.pixels], compat=True)
    mask = np.rint(classic_alpha(probs, *image.pixels.shape[:2]) * 255.0).astype(np.uint8)
    if post_process_mask:
        mask = _post_process(mask)
    result = mask if only_mask else _cut_out(image, mask, clean_edges=alpha_matting or decontaminate)
    if bgcolor is not None and not only_mask:
        backdrop = Image.new("RGBA", mask.shape[::-1], tuple(int(part) for part in bgcolor))
        result = np.asarray(Image.alpha_composite(backdrop, Image.fromarray(result)))
    if force_return_bytes or isinstance(data, bytes):
        return encode_image(result, "PNG")
    return Image.fromarray(result) if isinstance(data, Image.Image) else result


@lru_cache(maxsize=1)
def _default_session() -> BackgroundRemover:
    """Load u2net once."""
    return new_session()


def _decode(data: Data, session: BackgroundRemover) -> DecodedImage:
    """Bring any kind of data to pixels."""
    if isinstance(data, bytes):
        return decode_image(data, session.settings)
    if isinstance(data, Image.Image):
        return from_pil(data)
    if isinstance(data, np.ndarray):
        return from_array(data)
    raise InputError(f"data of type {type(data).__name__}", "bytes, a Pillow image or a numpy array", "convert it")


def _cut_out(image: DecodedImage, mask: np.ndarray, *, clean_edges: bool) -> np.ndarray:
    """Join colours and opacity, of which the photo may have had some already, to (H, W, 4)."""
    opacity = mask if image.alpha is None else np.rint(mask * (image.alpha / 255.0)).astype(np.uint8)
    if clean_edges:
        return np.dstack([estimate_foreground(image.pixels, opacity / np.float32(255)), opacity])
    return np.dstack([cv2.copyTo(image.pixels, opacity), opacity])


def _post_process(mask: np.ndarray) -> np.ndarray:
    """Drop specks by opening with a disk of radius 1, blur with sigma 2, and cut at 127."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cross).astype(np.float64)
    blurred = cv2.GaussianBlur(opened, (17, 17), 2.0, borderType=cv2.BORDER_REFLECT)
    return np.where(blurred < 127, 0, 255).astype(np.uint8)


def _parse_providers(providers: Sequence[Any] | None) -> dict[str, Any]:
    """Translate ONNX Runtime's list of preferences; a fallback to the CPU that it names is allowed to happen."""
    names = list(providers or [])
    if not all(isinstance(name, str) and name in _PROVIDERS for name in names):
        raise OptionError(f"providers={names!r}", f"{', '.join(_PROVIDERS)}, without options", "leave it out")
    either = not names or {"CUDAExecutionProvider", "CPUExecutionProvider"} <= set(names)
    return {} if either else dict(_PROVIDERS[names[0]])


def _refuse_unknown(unknown: Sequence[str], known: str) -> None:
    """Refuse arguments that would have no effect."""
    if unknown:
        raise OptionError(f"unknown arguments {', '.join(unknown)}", known, "leave them out, or use `cutray.remove`")
