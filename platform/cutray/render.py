"""From an alpha channel to the picture that was asked for: channels, background, crop, depth, file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from cutray.backdrop import Background, read_background
from cutray.config import InputLimits, OutputSettings, PictureSettings
from cutray.config.lengths import PRINT_DPI, is_physical
from cutray.imaging.color import convert_colors
from cutray.imaging.color_names import parse_color
from cutray.imaging.compose import compose, join_channels, lay_under
from cutray.imaging.decode import DecodedImage
from cutray.imaging.encode import encode_image
from cutray.imaging.encode_zip import encode_zip
from cutray.imaging.layout import Layout, plan_layout
from cutray.imaging.place import place_alpha, place_cutout
from cutray.imaging.shadow import cast_shadow, draw_outline
from cutray.matting.foreground import estimate_foreground


@dataclass(frozen=True, slots=True)
class Rendered:
    """The pictures that were asked for.

    Attributes:
        picture: (h, w, 4) straight RGBA, (h, w, 3) RGB on a background, or (h, w) grey for the mask alone; uint8,
            or uint16 at a bit depth of 16.
        mask: (h, w) uint8, the alpha channel as a grey picture, cropped like ``picture``.
        box: Left, top, right, bottom of the crop in the photo, in pixels.
        icc_profile: Profile that the picture's colours are in; None for sRGB and for a mask.
        notes: What could not be done as it was asked for.
    """

    picture: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()


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
    options: PictureSettings,
    *,
    clean_edges: bool,
    limits: InputLimits,
    backdrop: DecodedImage | None = None,
) -> Rendered:
    """Make the picture that was asked for.

    Args:
        image: The decoded photo.
        alpha: (H, W) float32 in [0, 1], already shaped.
        options: Channels, background, crop and depth.
        clean_edges: Take the old background's colour out of soft edges.
        limits: What a background picture may cost.
        backdrop: A decoded picture that takes the place of the background in the options.

    Returns:
        The picture and its mask. A background is brought into the photo's colour space; where a background picture is
        transparent and no subject is, the result is transparent too.

    Raises:
        OptionError: The background is neither a colour nor a picture.
        InputError: The background picture cannot be read.
    """
    layout = plan_layout(alpha, options, limits)
    notes = layout.notes
    left, top, right, bottom = layout.window
    window = np.s_[top:bottom, left:right]
    if options.only_mask:
        alpha = place_alpha(alpha[window], layout)
        mask = _to_8_bit(alpha)
        mask_uint16 = (alpha * 65535.0 + 0.5).astype(np.uint16) if options.bit_depth == 16 else mask
        return Rendered(mask_uint16, mask, layout.window, notes=notes)
    pixels = np.ascontiguousarray(image.pixels[window])
    uint16 = None if image.pixels_uint16 is None else image.pixels_uint16[window]
    profile, background = image.icc_profile, None
    if options.background is not None:
        background = read_background(options.background, backdrop, image, alpha, layout, limits)
        placed = background.converted_to(profile)
        if placed is None:
            # The photo's profile describes where colours come from, not how to store others.
            pixels, uint16, profile = cast(np.ndarray, convert_colors(pixels, profile, None)), None, None
            placed = cast(Background, background.converted_to(None))
            notes = (*notes, "photo converted to sRGB: its profile cannot take a background")
        background = placed
    alpha = alpha[window]
    mask = _to_8_bit(alpha)
    foreground = estimate_foreground(pixels, alpha) if clean_edges else cv2.copyTo(pixels, mask)
    if options.bit_depth == 16:
        foreground = _to_16_bit(foreground, alpha, uint16)
    if not layout.is_window:
        foreground, alpha = place_cutout(foreground, alpha, layout)
        mask = _to_8_bit(alpha)
    foreground, seen = _with_layers(foreground, alpha, options, layout)
    if background is not None:
        picture = compose(foreground, seen, background.colors, background.opacity)
        return Rendered(picture, mask, layout.window, profile, notes)
    full = np.iinfo(foreground.dtype).max
    if full == 255:
        opacity = mask if seen is alpha else _to_8_bit(seen)
    else:
        opacity = (seen * 65535.0 + 0.5).astype(np.uint16)
    return Rendered(join_channels(foreground, opacity), mask, layout.window, profile, notes)


def encode(rendered: Rendered, image: DecodedImage, options: PictureSettings, format_name: str) -> bytes:
    """Encode the picture with colour profile and resolution, and with the metadata that was asked for.

    Args:
        rendered: The picture.
        image: The photo, for its resolution and metadata.
        options: Quality and resolution.
        format_name: PNG, WEBP, AVIF, JPEG, TIFF, or ZIP for colours and alpha as two files. A JPEG of a picture on a
            transparent background is laid on white.

    Returns:
        The file's bytes.

    Raises:
        OptionError: The format cannot hold the picture, such as JPEG without a background.
    """
    picture = rendered.picture
    if format_name == "JPEG" and options.background is not None and picture.ndim == 3 and picture.shape[2] == 4:
        opacity = picture[..., 3].astype(np.float32) / np.iinfo(picture.dtype).max
        picture = compose(np.ascontiguousarray(picture[..., :3]), opacity, (255, 255, 255))
    facts: dict[str, Any] = {
        "quality": options.encode_quality,
        "icc_profile": rendered.icc_profile,
        "dpi": _resolution(image, options),
        "metadata": image.metadata,
    }
    if format_name == "ZIP":
        return encode_zip(picture, rendered.mask, **facts)
    return encode_image(picture, format_name, **facts)


def _with_layers(
    foreground: np.ndarray, alpha: np.ndarray, options: PictureSettings, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Put outline and shadow under the subject; the very arrays if there are none."""
    if options.outline is not None:
        border = draw_outline(alpha, options.outline_width / 100 * layout.subject_px)
        # As if cut out along the border: faint hair beyond it would float in the air.
        foreground, alpha = lay_under(foreground, np.minimum(alpha, border), parse_color(options.outline), border)
    if options.shadow != "none":
        shadow = cast_shadow(alpha, options, layout.subject_px)
        foreground, alpha = lay_under(foreground, alpha, (0, 0, 0), shadow)
    return foreground, alpha


def _resolution(image: DecodedImage, options: PictureSettings) -> tuple[float, float] | None:
    """Return the dots per inch that are written: as asked for, or what a size in mm is meant at, else the photo's."""
    if options.dpi is not None:
        return options.dpi, options.dpi
    if options.size is not None and is_physical(options.size):
        return PRINT_DPI, PRINT_DPI
    return image.dpi


def _to_8_bit(alpha: np.ndarray) -> np.ndarray:
    """Round alpha to 0–255; ten times as fast as numpy's arithmetic here."""
    return cv2.convertScaleAbs(alpha, alpha=255.0)


def _to_16_bit(foreground: np.ndarray, alpha: np.ndarray, uint16: np.ndarray | None) -> np.ndarray:
    """Go to 16 bits, with the photo's own 16-bit samples wherever the colour was not estimated."""
    widened = foreground.astype(np.uint16) * 257
    return widened if uint16 is None else np.where((alpha == 1)[..., None], uint16, widened)
