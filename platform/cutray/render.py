"""From an alpha channel to the picture that was asked for: channels, background, crop, depth, file."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np

from cutray.config import InputLimits, OutputSettings
from cutray.imaging.compose import blur_background, compose, cover_fit, find_subject_box, parse_color
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.files import read_bytes
from cutray.matting.foreground import estimate_foreground


@dataclass(frozen=True, slots=True)
class Rendered:
    """The pictures that were asked for.

    Attributes:
        picture: (h, w, 4) straight RGBA, (h, w, 3) RGB on a background, or (h, w) grey for the mask alone; uint8,
            or uint16 at a bit depth of 16.
        mask: (h, w) uint8, the alpha channel as a grey picture, cropped like ``picture``.
        box: Left, top, right, bottom of the crop in the photo, in pixels.
    """

    picture: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]


def shape_alpha(alpha: np.ndarray, image: DecodedImage, options: OutputSettings) -> np.ndarray:
    """Apply threshold, inversion and the photo's own transparency, in this order.

    Args:
        alpha: (H, W) float32 in [0, 1].
        image: The photo; where it was transparent before, the result stays transparent.
        options: Threshold and inversion.

    Returns:
        (H, W) float32 in [0, 1].
    """
    if options.threshold is not None:
        alpha = (alpha >= options.threshold).astype(np.float32)
    if options.inverse:
        alpha = 1.0 - alpha
    if image.alpha is not None:
        alpha = np.minimum(alpha, image.alpha.astype(np.float32) / 255.0)
    return alpha


def render(
    image: DecodedImage,
    alpha: np.ndarray,
    options: OutputSettings,
    *,
    clean_edges: bool,
    limits: InputLimits,
    backdrop: np.ndarray | None = None,
) -> Rendered:
    """Make the picture that was asked for.

    Args:
        image: The decoded photo.
        alpha: (H, W) float32 in [0, 1], already shaped.
        options: Channels, background, crop and depth.
        clean_edges: Take the old background's colour out of soft edges.
        limits: What a background picture may cost.
        backdrop: (h, w, 3) uint8 sRGB, a decoded picture that takes the place of the colour in the options.

    Returns:
        The picture and its mask.

    Raises:
        OptionError: The background is neither a colour nor a picture.
        InputError: The background picture cannot be read.
    """
    box = find_subject_box(alpha, options.crop_margin) if options.crop else (0, 0, alpha.shape[1], alpha.shape[0])
    window = np.s_[box[1] : box[3], box[0] : box[2]]
    alpha = alpha[window]
    mask = cv2.convertScaleAbs(alpha, alpha=255.0)  # rounds; ten times as fast as numpy's arithmetic here
    if options.only_mask:
        deep_mask = (alpha * 65535.0 + 0.5).astype(np.uint16) if options.bit_depth == 16 else mask
        return Rendered(deep_mask, mask, box)
    pixels = np.ascontiguousarray(image.pixels[window])
    foreground = estimate_foreground(pixels, alpha) if clean_edges else cv2.copyTo(pixels, mask)
    uint16 = None if image.pixels_uint16 is None else image.pixels_uint16[window]
    if options.bit_depth == 16:
        foreground = _to_16_bit(foreground, alpha, uint16)
    if options.background is None:
        full = np.iinfo(foreground.dtype).max
        opacity = mask if full == 255 else (alpha * 65535.0 + 0.5).astype(np.uint16)
        return Rendered(_with_channel(foreground, opacity), mask, box)
    if backdrop is not None:
        return Rendered(compose(foreground, alpha, cover_fit(backdrop, *alpha.shape)), mask, box)
    background = _background(options.background, image.pixels, alpha, window, limits)
    return Rendered(compose(foreground, alpha, background), mask, box)


def encode(rendered: Rendered, image: DecodedImage, options: OutputSettings, format_name: str) -> bytes:
    """Encode the picture with colour profile and resolution, and with the metadata that was asked for.

    Args:
        rendered: The picture.
        image: The photo, for its profile and resolution.
        options: Quality.
        format_name: PNG, WEBP, AVIF, JPEG or TIFF.

    Returns:
        The file's bytes.

    Raises:
        OptionError: The format cannot hold the picture, such as JPEG without a background.
    """
    profile = image.icc_profile if rendered.picture.ndim == 3 else None
    return encode_image(
        rendered.picture,
        format_name,
        quality=options.encode_quality,
        icc_profile=profile,
        dpi=image.dpi,
        metadata=image.metadata,
    )


def _with_channel(foreground: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Join colours and opacity to (h, w, 4); numpy's stacking functions take ten times as long."""
    picture = cv2.cvtColor(foreground, cv2.COLOR_RGB2RGBA)
    picture[..., 3] = opacity
    return picture


def _to_16_bit(foreground: np.ndarray, alpha: np.ndarray, uint16: np.ndarray | None) -> np.ndarray:
    """Go to 16 bits, with the photo's own 16-bit samples wherever the colour was not estimated."""
    widened = foreground.astype(np.uint16) * 257
    return widened if uint16 is None else np.where((alpha == 1)[..., None], uint16, widened)


def _background(
    wanted: str, photo: np.ndarray, alpha: np.ndarray, window: tuple[slice, slice], limits: InputLimits
) -> tuple[int, int, int] | np.ndarray:
    """Read what the subject is to be laid on."""
    if wanted == "blur":
        return blur_background(photo[window], alpha)
    if os.path.isfile(wanted):  # unlike pathlib, it takes a text of any length
        return cover_fit(decode_image(read_bytes(wanted, limits), limits).pixels, *alpha.shape)
    return parse_color(wanted)
