"""rembg's ``remove``: one photo in, its cutout or mask out, of the same kind as the photo."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cutray.compat.session_factory import new_session
from cutray.compat.sessions import BaseSession, classic_mask
from cutray.errors import InputError, OptionError
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import encode_image
from cutray.matting.foreground import estimate_foreground
from cutray.remover import BackgroundRemover

Data = bytes | bytearray | memoryview | Image.Image | np.ndarray


class UnsupportedTypeError(InputError, ValueError):
    """The photo is of a type that is not read; rembg's callers expect a ``ValueError``."""


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
    vitmatte: bool = False,
    vitmatte_model: str | None = None,  # noqa: ARG001 (its place among the arguments)
    bgcolor: tuple[int, ...] | None = None,
    force_return_bytes: bool = False,
    *args: Any,
    putalpha: bool = False,
    **kwargs: Any,
) -> Any:
    """Cut the subject out of a photo.

    Args:
        data: Encoded bytes (or what holds bytes), a Pillow image, or an (H, W[, 1|3|4]) array of sRGB samples.
        alpha_matting: As ``decontaminate``.
        alpha_matting_foreground_threshold: 0 to 255; this and the next two are checked and not used.
        alpha_matting_background_threshold: 0 to 255.
        alpha_matting_erode_size: 0 or more pixels.
        session: What ``new_session`` returned; u2net, loaded once, by default.
        only_mask: Give the mask (mode L) instead of the cutout.
        post_process_mask: Smooth the outline and harden it to 0 and 255.
        decontaminate: Take the old background's colour out of soft edges.
        vitmatte: As ``decontaminate``, with a warning: there is no ViTMatte here.
        vitmatte_model: Not used.
        bgcolor: Red, green, blue and optionally opacity in 0–255, laid under the subject; the result stays RGBA.
        force_return_bytes: Give PNG bytes whatever was put in.
        args: There are none.
        putalpha: Leave the photo's colours in hidden pixels too.
        kwargs: There are none.

    Returns:
        The straight RGBA cutout, or the mask, as PNG bytes for bytes, a Pillow image for one, else a uint8 array.

    Raises:
        InputError: The photo or an argument cannot be used.
        EngineError: The network failed.
    """
    if args or kwargs:
        unknown = ", ".join([*map(repr, args), *kwargs])
        raise OptionError(
            f"unknown arguments {unknown}", "those in the documentation of this function", "leave them out"
        )
    if vitmatte:
        message = "vitmatte: there is no ViTMatte here; soft edges get the subject's colours and keep their mask"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    numbers = (alpha_matting_foreground_threshold, alpha_matting_background_threshold, alpha_matting_erode_size)
    if min(numbers) < 0 or max(numbers[:2]) > 255:
        raise OptionError(f"alpha matting numbers {numbers}", "0-255, 0-255, and 0 or more", "correct them")
    if bgcolor is not None and not (len(bgcolor) in (3, 4) and all(part in range(256) for part in bgcolor)):
        raise OptionError(f"bgcolor={bgcolor!r}", "three or four whole numbers in 0-255", "correct the colour")
    session = session or _default_session()
    image = _decode(data, session)
    mask = classic_mask(session, image.pixels)
    if post_process_mask:
        mask = _post_process(mask)
    if only_mask:
        result = mask
    elif putalpha:
        result = np.dstack([image.pixels, _opacity(image, mask)])
    else:
        result = _cut_out(image, mask, clean_edges=vitmatte or alpha_matting or decontaminate)
    if bgcolor is not None and not only_mask:
        backdrop = Image.new("RGBA", mask.shape[::-1], tuple(int(part) for part in bgcolor))
        result = np.asarray(Image.alpha_composite(backdrop, Image.fromarray(result)))
    if force_return_bytes or isinstance(data, (bytes, bytearray, memoryview)):
        return encode_image(result, "PNG")
    return Image.fromarray(result) if isinstance(data, Image.Image) else result


@lru_cache(maxsize=1)
def _default_session() -> BaseSession:
    """Load u2net once."""
    return new_session()


def _decode(data: Data, session: BackgroundRemover) -> DecodedImage:
    """Bring any kind of data to pixels."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return decode_image(bytes(data), session.settings)
    if isinstance(data, Image.Image):
        return from_pil(data)
    if isinstance(data, np.ndarray):
        return from_array(data)
    raise UnsupportedTypeError(
        f"data of type {type(data).__name__}", "bytes, a Pillow image or a numpy array", "convert it"
    )


def _opacity(image: DecodedImage, mask: np.ndarray) -> np.ndarray:
    """Join the mask and the opacity that the photo had already, to (H, W) uint8."""
    return mask if image.alpha is None else np.rint(mask * (image.alpha / 255.0)).astype(np.uint8)


def _cut_out(image: DecodedImage, mask: np.ndarray, *, clean_edges: bool) -> np.ndarray:
    """Join colours and opacity to (H, W, 4); hidden pixels are black."""
    opacity = _opacity(image, mask)
    if clean_edges:
        return np.dstack([estimate_foreground(image.pixels, opacity / np.float32(255)), opacity])
    return np.dstack([cv2.copyTo(image.pixels, opacity), opacity])


def _post_process(mask: np.ndarray) -> np.ndarray:
    """Drop specks by opening with a disk of radius 1, blur with sigma 2, and cut at 127."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cross).astype(np.float64)
    blurred = cv2.GaussianBlur(opened, (17, 17), 2.0, borderType=cv2.BORDER_REFLECT)
    return np.where(blurred < 127, 0, 255).astype(np.uint8)
