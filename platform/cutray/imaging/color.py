"""Convert between colour spaces: ICC profiles, CMYK and Lab to sRGB, and sRGB to a photo's own space."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageCms

from cutray.imaging.raw_image import U8, ColorMode

_STRIP_BYTES = 16 << 20
_SPACES: dict[str, ColorMode] = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_MAX_SRGB_DIFFERENCE = 2  # in 8-bit steps: the many published variants of sRGB differ by no more

Convert = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, slots=True)
class Profile:
    """A usable colour profile.

    Attributes:
        mode: Colour mode that it describes.
        convert: Brings a Pillow image of that mode to sRGB; None when it is sRGB already.
    """

    mode: ColorMode
    convert: Convert | None


@functools.lru_cache(maxsize=16)
def read_profile(icc: bytes) -> Profile | None:
    """Open a colour profile; the last few stay open, since a folder of photos shares them.

    Whether a profile is sRGB is decided by what it does to a grid of colours, not by its name.

    Args:
        icc: The profile's bytes.

    Returns:
        The profile, or None when it is broken or of a kind that no picture here has.
    """
    try:
        source = _open_profile(icc)
        mode = _SPACES.get(source.profile.xcolor_space.strip())
        if mode is None:
            return None
        convert = _transform(source, mode)
        if mode == "RGB" and _is_identity(convert):
            return Profile(mode, None)
        return Profile(mode, convert)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken profile is common and no reason to refuse the picture


def to_srgb(
    samples: U8, mode: ColorMode, icc: bytes | None, *, keep_profile: bool
) -> tuple[U8, bytes | None, list[str]]:
    """Bring decoded samples to RGB, in sRGB unless the profile is kept.

    Without a profile CMYK is converted by the simple rule (1 - ink)(1 - black), Lab as CIE Lab under D50,
    and everything else counts as sRGB.

    Args:
        samples: (H, W) or (H, W, C) uint8 of the given mode.
        mode: Colour mode of the samples.
        icc: Embedded profile or None.
        keep_profile: Leave RGB samples in their own space and hand the profile on.

    Returns:
        (H, W, 3) uint8 RGB, the profile that the pixels are still in or None for sRGB, and notes.
    """
    notes: list[str] = []
    profile = read_profile(icc) if icc else None
    if icc and profile is None:
        notes.append("broken ICC profile ignored")
    elif profile and profile.mode != mode:
        notes.append(f"ICC profile for {profile.mode} ignored on a picture in {mode}")
        profile = None
    if profile and profile.convert:
        if keep_profile and mode == "RGB":
            return samples, icc, notes
        return _convert_strips(samples, mode, profile.convert), None, notes
    if mode == "CMYK":
        return _convert_strips(samples, mode, lambda strip: strip.convert("RGB")), None, notes
    if mode == "LAB":
        return _convert_strips(samples, mode, _lab_transform()), None, notes
    return samples if mode == "RGB" else cv2.cvtColor(samples, cv2.COLOR_GRAY2RGB), None, notes  # type: ignore[return-value]


def convert_colors(pixels: U8, source: bytes | None, target: bytes | None) -> U8 | None:
    """Convert RGB pixels from one colour space to another, so that they look the same to a colour-managed viewer.

    Args:
        pixels: (H, W, 3) uint8.
        source: Profile of the pixels, or None for sRGB.
        target: Profile to convert to, or None for sRGB.

    Returns:
        (H, W, 3) uint8, the same object when the two are equal; None when the target only describes a device that
        colours come from, such as a camera, and cannot be converted to.
    """
    if source == target:
        return pixels
    convert = _link(source, target)
    return None if convert is None else _convert_strips(pixels, "RGB", convert)


@functools.lru_cache(maxsize=16)
def _link(source: bytes | None, target: bytes | None) -> Convert | None:
    """Build the way from one RGB profile to another."""
    try:
        return _transform(_open_profile(source), "RGB", _open_profile(target))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _open_profile(icc: bytes | None) -> ImageCms.ImageCmsProfile:
    """Open a profile, or make that of sRGB."""
    return ImageCms.ImageCmsProfile(io.BytesIO(icc) if icc else ImageCms.createProfile("sRGB"))


def _convert_strips(samples: U8, mode: ColorMode, convert: Convert) -> U8:
    """Convert strip by strip, so that only a few megabytes exist twice."""
    height, width = samples.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_BYTES // max(1, samples[0].nbytes))
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(samples[top : top + rows])
        image = Image.frombytes(mode, (width, strip.shape[0]), strip.tobytes())
        out[top : top + rows] = np.asarray(convert(image))
    return out


def _transform(
    source: ImageCms.ImageCmsProfile, mode: ColorMode, target: ImageCms.ImageCmsProfile | None = None
) -> Convert:
    """Build the way from a profile to another one of RGB, or to sRGB."""
    target = target or _open_profile(None)
    link = ImageCms.buildTransform(source, target, mode, "RGB", _INTENT, _FLAGS)

    def convert(strip: Image.Image) -> Image.Image:
        return cast(Image.Image, ImageCms.applyTransform(strip, link))  # None only when converting in place

    return convert


@functools.lru_cache(maxsize=1)
def _lab_transform() -> Convert:
    """Build the way from CIE Lab under D50 to sRGB."""
    return _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _is_identity(convert: Convert) -> bool:
    """Tell whether a conversion to sRGB leaves a grid of colours as it is."""
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 1, 3)
    image = Image.frombytes("RGB", (1, len(grid)), grid.tobytes())
    changed = np.asarray(convert(image)).astype(np.int16)
    return bool(np.abs(changed - grid).max() <= _MAX_SRGB_DIFFERENCE)
