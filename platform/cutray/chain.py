"""The chain that one photo goes through: decode → look → matte → render → encode. Pure functions, whoever calls them.

The network itself is not called from here. ``Looks`` says what it is to be shown and takes its maps, so that the
library, which has it at hand, and the endpoint, which asks for it across processes, go the same way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from cutray.config import MattingSettings, RemoverSettings
from cutray.errors import EngineError, InputError, OptionError
from cutray.imaging.compose import compose
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import parse_format
from cutray.imaging.files import read_bytes
from cutray.imaging.resize import resize_within
from cutray.matting.alpha import classic_alpha, rescale_probs, upsample_alpha
from cutray.matting.detect import detect_edge_cases
from cutray.matting.edges import matte_edges
from cutray.matting.looks import Seen, blend_crop, crop_around_subject, is_confirmed, is_doubtful, merge_views
from cutray.matting.refine import Region, built_in_refiner
from cutray.matting.subject import Subject, find_subject
from cutray.matting.transparency import clear_alpha
from cutray.models.catalog import ModelSpec
from cutray.render import Rendered, encode, render, shape_alpha
from cutray.segmenter import prepare

Source = str | PathLike[str] | bytes | Image.Image | np.ndarray

_DETECTOR_SIDE_PX = 640
# Side of a square with as many pixels as soft edges are solved on; `fine` follows large photos up to the second one.
_WORK_SIDE_PX, _FINE_SIDE_PX = 480.0, 720.0
_TOO_BUSY = "see_through was left out: the background is too busy to tell what is clear"


@dataclass(slots=True)
class RemovalReport:
    """What is known about one removal.

    Attributes:
        subject_found: False when the scene is empty; the cutout is then fully transparent.
        confidence: How sure the network is of what it noticed, in [0, 1]; 0 if it did not notice it again from nearby.
        area_fraction: Share of the photo that the subject covers, in [0, 1].
        width_px: Width of the photo.
        height_px: Height of the photo.
        box: Left, top, right, bottom of the result within the photo, in pixels.
        model: Name of the model.
        engine: Engine, device and precision.
        notes: What was left out or changed on the way in.
        edge_cases: What makes the edges hard, if it was asked for: fine_detail, transparency, reflectivity, texture.
        timings_ms: Milliseconds of each stage.
    """

    subject_found: bool
    confidence: float
    area_fraction: float
    width_px: int
    height_px: int
    box: tuple[int, int, int, int]
    model: str
    engine: str
    notes: tuple[str, ...] = ()
    edge_cases: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


class Looks:
    """All looks of the network at one photo, stage by stage.

    Attributes:
        wanted: (N, 3, S, S) float32, what the network is to be shown next; None when it has seen enough.
    """

    wanted: np.ndarray | None

    def __init__(self, image: DecodedImage, spec: ModelSpec, settings: MattingSettings) -> None:
        """Prepare the first stage.

        Args:
            image: The decoded photo.
            spec: What the network was trained to see.
            settings: How many looks.
        """
        self._seen: Seen | None = None
        self._stages = _look(opaque(image), spec, settings)
        self.wanted = next(self._stages)

    def show(self, maps: np.ndarray) -> None:
        """Take the network's answer to ``wanted`` and prepare the next stage.

        Args:
            maps: (N, S, S) float32 in [0, 1].
        """
        try:
            self.wanted = self._stages.send(maps)
        except StopIteration as end:
            self.wanted, self._seen = None, end.value

    @property
    def seen(self) -> Seen:
        """What was seen, once nothing more is wanted.

        Raises:
            EngineError: The network has not been shown everything yet.
        """
        if self._seen is None:
            raise EngineError(
                got="the network has not been shown everything yet", fix="go on while `wanted` is not None"
            )
        return self._seen


def _look(pixels: np.ndarray, spec: ModelSpec, settings: MattingSettings) -> Generator[np.ndarray, np.ndarray, Seen]:
    """Look at the frame, then at the subject's surroundings if that is asked for, or if there may be no subject.

    With more than one look, each is at the mirror image as well.
    """
    looks = settings.effort.looks

    def views(part: np.ndarray) -> np.ndarray:
        tensor = prepare(part, spec, compat=settings.compat)
        return np.stack([tensor] if looks == 1 else [tensor, tensor[..., ::-1]])

    def turned(maps: np.ndarray) -> list[np.ndarray]:
        return [maps[0], *(one[:, ::-1] for one in maps[1:])]

    each = turned((yield views(pixels)))
    first = merge_views(each)
    cells = first.shape[0]
    height, width = pixels.shape[:2]
    box = crop_around_subject(first, height, width) if looks > 1 else None
    if box is None:
        return Seen(first, cells)
    closer = looks == 4 and box.has_resolution(cells)
    doubtful = is_doubtful(first=each[0], mirrored=each[1])
    if not (closer or doubtful):
        return Seen(first, cells)
    second = merge_views(turned((yield views(pixels[box.top : box.bottom, box.left : box.right]))))
    if doubtful and not is_confirmed(first, second, box, height, width):
        return Seen(np.zeros_like(first), cells)
    return Seen(blend_crop(first, second, box, height, width) if closer else first, cells)


def finish(
    image: DecodedImage,
    seen: Seen,
    settings: RemoverSettings,
    format_name: str,
    names: tuple[str, str],
    timings: dict[str, float],
    *,
    backdrop: np.ndarray | None = None,
) -> tuple[Rendered, bytes, RemovalReport]:
    """Turn what the network saw into the picture that was asked for.

    Args:
        image: The decoded photo.
        seen: From ``Looks``.
        settings: What was asked for.
        format_name: PNG, WEBP, AVIF, JPEG or TIFF, from ``output_format``.
        names: The model, and its engine, for the report.
        timings: Milliseconds of the stages so far; those of the last three are added.
        backdrop: (h, w, 3) uint8 sRGB, a picture that takes the place of the colour in ``settings.background``.

    Returns:
        The pictures, the encoded file and the report.

    Raises:
        InputError: The photo or an option cannot be used.
        OutputError: The encoder failed.
    """
    subject = find_subject(seen.probs, settings)
    to_refine = subject.found and settings.effort.refine == "detected"
    with timed(timings, "matte"):
        found = _edge_cases(image, seen) if settings.edge_cases or to_refine else ()
        alpha, notes = _cleared(_alpha(seen, subject, image, settings, found), image, settings)
        alpha = shape_alpha(alpha, image, settings)
    with timed(timings, "render"):
        clean = settings.clean_edges and not settings.compat
        rendered = render(image, alpha, settings, clean_edges=clean, limits=settings, backdrop=backdrop)
    with timed(timings, "encode"):
        data = encode(rendered, image, settings, format_name)
    report = RemovalReport(
        subject_found=subject.found,
        confidence=round(subject.confidence, 4),
        area_fraction=round(subject.area_fraction, 4),
        width_px=image.pixels.shape[1],
        height_px=image.pixels.shape[0],
        box=rendered.box,
        model=names[0],
        engine=names[1],
        notes=image.notes + notes,
        edge_cases=found if settings.edge_cases else (),
        timings_ms=timings,
    )
    return rendered, data, report


def decode_source(source: Source, settings: RemoverSettings) -> DecodedImage:
    """Bring any kind of source to pixels.

    Args:
        source: Path, encoded bytes, Pillow image, or (H, W[, 1|3|4]) array of sRGB samples.
        settings: Limits, bit depth and colour profile.

    Returns:
        The photo, upright, in sRGB or its own profile.

    Raises:
        InputError: The photo cannot be used.
    """
    keep_uint16 = settings.bit_depth == 16
    keep = settings.color_profile == "keep"
    if isinstance(source, str | PathLike):
        source = read_bytes(source, settings)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), settings, keep_profile=keep, keep_uint16=keep_uint16)
    if isinstance(source, Image.Image):
        return from_pil(source, keep_profile=keep, keep_uint16=keep_uint16)
    if isinstance(source, np.ndarray):
        return from_array(source, keep_uint16=keep_uint16)
    raise InputError(
        got=f"a source of type {type(source).__name__}",
        allowed="a path, encoded bytes, a Pillow image or a numpy array",
        fix="convert it to one of these",
    )


def opaque(image: DecodedImage) -> np.ndarray:
    """Show the network a transparent photo on white; what hides below transparency may be anything.

    Args:
        image: The decoded photo.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    if image.alpha is None:
        return image.pixels
    return compose(image.pixels, image.alpha.astype(np.float32) / 255.0, (255, 255, 255))


def _alpha(
    seen: Seen, subject: Subject, image: DecodedImage, settings: RemoverSettings, found: Sequence[str]
) -> np.ndarray:
    """Bring what was seen to the photo's size; an empty scene gets an empty alpha channel."""
    height, width = image.pixels.shape[:2]
    if settings.compat:
        return classic_alpha(seen.probs, height, width)
    if not subject.found:
        return np.zeros((height, width), np.float32)
    levelled = rescale_probs(seen.probs, settings)
    edges = settings.effort.edges
    if edges == "soft":
        alpha = upsample_alpha(levelled, height, width)
    else:
        # At more than half a photo's size its grain is solved for, too.
        half = math.sqrt(height * width) / 2
        side = min(max(half, _WORK_SIDE_PX), _FINE_SIDE_PX) if edges == "fine" else _WORK_SIDE_PX
        alpha = matte_edges(levelled, seen.cells, opaque(image), side)
    where = _where_to_refine(found, settings)
    return alpha if where is None else built_in_refiner().correct(alpha, opaque(image), where)


def _where_to_refine(found: Sequence[str], settings: RemoverSettings) -> Region | None:
    """Settle what a refiner may correct. Of what is detected only hair and fur are: false lace would cost too much."""
    refine = settings.effort.refine
    if refine == "detected":
        return "edges" if "fine_detail" in found else None
    return None if refine == "never" else refine


def _cleared(alpha: np.ndarray, image: DecodedImage, settings: RemoverSettings) -> tuple[np.ndarray, tuple[str, ...]]:
    """Let the background show through a subject that is said to be clear, or note why not."""
    if not settings.see_through or not alpha.any():
        return alpha, ()
    cleared = clear_alpha(alpha, opaque(image))
    return (alpha, (_TOO_BUSY,)) if cleared is None else (cleared, ())


def _edge_cases(image: DecodedImage, seen: Seen) -> tuple[str, ...]:
    """Name what makes the edges of a photo hard."""
    return detect_edge_cases(resize_within(opaque(image), _DETECTOR_SIDE_PX), seen.probs).present


def output_format(settings: RemoverSettings, destination: str | PathLike[str] | None) -> str:
    """Settle the file format before any work is done, so that a wrong name costs nothing.

    Args:
        settings: The format that was asked for, and whether the result can be opaque.
        destination: File to write, whose ending counts when the format is auto, or None.

    Returns:
        PNG, WEBP, AVIF, JPEG or TIFF.

    Raises:
        OptionError: The ending names no format, or the format cannot hold a transparent cutout.
    """
    named = settings.format
    name = (
        parse_format(named)
        if named != "auto"
        else parse_format(Path(destination))
        if destination is not None
        else "PNG"
    )
    if name == "JPEG" and settings.background is None and not settings.only_mask:
        raise OptionError(
            got="a cutout as JPEG, which cannot be transparent",
            allowed="PNG, WebP, AVIF or TIFF, or JPEG on a background",
            fix="choose another ending, or add a background such as white",
        )
    return name


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took.

    Args:
        timings: Milliseconds of each stage; one is added.
        stage: Its name.
    """
    start = time.perf_counter()
    yield
    timings[stage] = round((time.perf_counter() - start) * 1000, 1)
