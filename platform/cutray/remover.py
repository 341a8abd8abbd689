"""The chain: decode → segment → matte → render → encode. Everything that removes a background goes through here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.errors import CutrayError, InputError, OptionError
from cutray.imaging.compose import compose
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import format_for
from cutray.imaging.files import read_bytes, write_atomically
from cutray.matting.alpha import classic_alpha, upsample_alpha
from cutray.matting.subject import Subject, find_subject
from cutray.render import Rendered, encode, render, shape_alpha
from cutray.segmenter import Segmenter

Source = str | PathLike[str] | bytes | Image.Image | np.ndarray
Progress = Callable[[str, int, int | None], None]


@dataclass(slots=True)
class RemovalReport:
    """What is known about one removal.

    Attributes:
        subject_found: False when the scene is empty; the cutout is then fully transparent.
        confidence: How sure the network is of what it noticed, in [0, 1].
        area_fraction: Share of the photo that the subject covers, in [0, 1].
        width_px: Width of the photo.
        height_px: Height of the photo.
        box: Left, top, right, bottom of the result within the photo, in pixels.
        model: Name of the model.
        engine: Engine, device and precision.
        notes: What was left out or changed on the way in.
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
    timings_ms: dict[str, float] = field(default_factory=dict)


class Removal(tuple[Any, Any]):
    """The pair ``(cutout, mask)``, with more about it in attributes.

    Attributes:
        cutout: (h, w, 4) uint8 straight RGBA, or what the options asked for instead; a Pillow image if a Pillow
            image was given, else an array.
        mask: (h, w) uint8, the alpha channel as a grey picture; a Pillow image or an array likewise.
        report: Confidence, sizes, notes and timings.
        data: The encoded file.
    """

    report: RemovalReport
    data: bytes

    def __new__(cls, cutout: Any, mask: Any, report: RemovalReport, data: bytes) -> Removal:
        """Build the pair."""
        pair = super().__new__(cls, (cutout, mask))
        pair.report, pair.data = report, data
        return pair

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling with all attributes."""
        return type(self), (self[0], self[1], self.report, self.data)

    @property
    def cutout(self) -> Any:
        """The first of the pair."""
        return self[0]

    @property
    def mask(self) -> Any:
        """The second of the pair."""
        return self[1]


class BackgroundRemover:
    """Removes backgrounds. Loads its network once; safe to use from several threads.

    >>> remover = BackgroundRemover("u2net")  # doctest: +SKIP
    >>> cutout, mask = remover.remove_background("input.jpg", "output.png")  # doctest: +SKIP
    """

    def __init__(self, model: str = "u2net", *, progress: Progress | None = None, **settings: Any) -> None:
        """Load a model.

        Args:
            model: Name (``u2net``, ``u2netp``, …) or path of an .onnx, .pth or .safetensors file.
            progress: Called with file name, bytes so far and all bytes while weights are downloaded.
            settings: Any field of ``cutray.config.RemoverSettings``; they become the defaults of each call.

        Raises:
            ConfigError: A setting is unknown or has a value that is not allowed.
            WeightsError: The weights are unknown, damaged or not obtainable.
            EngineError: The engine is not available or cannot use the weights.
        """
        if settings.get("compat") and settings.get("precision", "auto") == "auto":
            settings["precision"] = "fp32"  # bf16 would move single pixels by more than the recipe's own rounding
        self.settings = parse_settings(RemoverSettings, {"model": str(model), **settings})
        self.segmenter = Segmenter.load(self.settings, progress)

    def remove_background(
        self, source: Source, destination: str | PathLike[str] | None = None, *, overwrite: bool = True, **options: Any
    ) -> Removal:
        """Cut the subject out of one photo.

        Args:
            source: Path, encoded bytes, Pillow image, or (H, W[, 1|3|4]) array of sRGB samples.
            destination: File to write, atomically; its ending names the format. None writes nothing.
            overwrite: Whether an existing destination may be replaced.
            options: Any field of ``RemoverSettings`` but those of the engine, for this call alone.

        Returns:
            ``(cutout, mask)``, with ``.report`` and the encoded ``.data``.

        Raises:
            InputError: The photo or an option cannot be used.
            ConfigError: An option is unknown or has a value that is not allowed.
            EngineError: The network failed.
            OutputError: The destination cannot be written.
        """
        settings = self._with(options)
        format_name = output_format(settings, destination)
        timings: dict[str, float] = {}
        with _timed(timings, "decode"):
            image = decode_source(source, settings)
        with _timed(timings, "segment"):
            (probs,) = self.segmenter.segment([opaque(image)], compat=settings.compat)
        removal = self._finish(source, image, probs, settings, format_name, timings)
        if destination is not None:
            write_atomically(destination, removal.data, overwrite=overwrite)
        return removal

    def remove_many(self, sources: Iterable[Source], **options: Any) -> Iterator[Removal | CutrayError]:
        """Cut out many photos, several per forward pass; nothing is written.

        Args:
            sources: As for ``remove_background``; read lazily, so any number will do.
            options: As for ``remove_background``.

        Yields:
            For each source in order its result, or the error that kept it from having one.

        Raises:
            ConfigError: An option is unknown or has a value that is not allowed.
            EngineError: The network failed.
        """
        settings = self._with(options)
        format_name = output_format(settings, None)
        stream = iter(sources)
        while chunk := list(islice(stream, settings.batch_size)):
            yield from self._remove_chunk(chunk, settings, format_name)

    def _remove_chunk(
        self, sources: Sequence[Source], settings: RemoverSettings, format_name: str
    ) -> Iterator[Removal | CutrayError]:
        """Decode a few photos, segment them in one pass, and finish each on its own."""
        images = [_try(partial(decode_source, source, settings)) for source in sources]
        good = [image for image in images if isinstance(image, DecodedImage)]
        found = iter(self.segmenter.segment([opaque(image) for image in good], compat=settings.compat))
        for source, image in zip(sources, images, strict=True):
            if isinstance(image, CutrayError):
                yield image
                continue
            probs = next(found)
            yield _try(partial(self._finish, source, image, probs, settings, format_name, {}))

    def _finish(
        self,
        source: Source,
        image: DecodedImage,
        probs: np.ndarray,
        settings: RemoverSettings,
        format_name: str,
        timings: dict[str, float],
    ) -> Removal:
        """Turn the network's probabilities into what the caller gets."""
        engine = f"{self.segmenter.engine.name} {self.segmenter.engine.device} {self.segmenter.engine.precision}"
        names = (self.segmenter.weights.spec.name, engine)
        rendered, data, report = finish(image, probs, settings, format_name, names, timings)
        if isinstance(source, Image.Image) and rendered.picture.dtype == np.uint8:
            return Removal(Image.fromarray(rendered.picture), Image.fromarray(rendered.mask), report, data)
        return Removal(rendered.picture, rendered.mask, report, data)

    def _with(self, options: dict[str, Any]) -> RemoverSettings:
        """Settings of one call: the remover's own, overridden and checked again."""
        if not options:
            return self.settings
        if fixed := sorted(set(options) & set(EngineSettings.model_fields)):
            raise OptionError(
                got=f"{', '.join(fixed)} given for one call",
                allowed="the model and its engine are chosen when the remover is made",
                fix=f"make another one: BackgroundRemover({fixed[0]}=…)",
            )
        return parse_settings(RemoverSettings, {**self.settings.model_dump(), **options})


@lru_cache(maxsize=2)
def _shared(model: str) -> BackgroundRemover:
    """Keep the last two models loaded between calls of ``remove``."""
    return BackgroundRemover(model)


def remove(
    source: Source, destination: str | PathLike[str] | None = None, *, model: str = "u2net", **options: Any
) -> Removal:
    """Cut the subject out of one photo in one call; the model stays loaded for the next one.

    Args:
        source: As for ``BackgroundRemover.remove_background``.
        destination: File to write, or None.
        model: Name or path of the model.
        options: As for ``BackgroundRemover.remove_background``.

    Returns:
        ``(cutout, mask)``, with ``.report`` and ``.data``.

    Raises:
        CutrayError: As ``BackgroundRemover`` and its ``remove_background`` do.
    """
    return _shared(model).remove_background(source, destination, **options)


def finish(
    image: DecodedImage,
    probs: np.ndarray,
    settings: RemoverSettings,
    format_name: str,
    names: tuple[str, str],
    timings: dict[str, float],
    *,
    backdrop: np.ndarray | None = None,
) -> tuple[Rendered, bytes, RemovalReport]:
    """Turn the network's probabilities into the picture that was asked for.

    Args:
        image: The decoded photo.
        probs: (S, S) float32 in [0, 1], from the network.
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
    subject = find_subject(probs, settings)
    with _timed(timings, "matte"):
        alpha = shape_alpha(_alpha(probs, subject, image, settings), image, settings)
    with _timed(timings, "render"):
        clean = settings.clean_edges and not settings.compat
        rendered = render(image, alpha, settings, clean_edges=clean, limits=settings, backdrop=backdrop)
    with _timed(timings, "encode"):
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
        notes=image.notes,
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
    deep = settings.bit_depth == 16
    keep = settings.color_profile == "keep"
    if isinstance(source, str | PathLike):
        source = read_bytes(source, settings)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), settings, keep_profile=keep, deep=deep)
    if isinstance(source, Image.Image):
        return from_pil(source, keep_profile=keep, deep=deep)
    if isinstance(source, np.ndarray):
        return from_array(source, deep=deep)
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


def _alpha(probs: np.ndarray, subject: Subject, image: DecodedImage, settings: RemoverSettings) -> np.ndarray:
    """Bring probabilities to the photo's size; an empty scene gets an empty alpha channel."""
    height, width = image.pixels.shape[:2]
    if settings.compat:
        return classic_alpha(probs, height, width)
    if not subject.found:
        return np.zeros((height, width), np.float32)
    return upsample_alpha(probs, height, width, settings)


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
    name = format_for(named) if named != "auto" else format_for(Path(destination)) if destination is not None else "PNG"
    if name == "JPEG" and settings.background is None and not settings.only_mask:
        raise OptionError(
            got="a cutout as JPEG, which cannot be transparent",
            allowed="PNG, WebP, AVIF or TIFF, or JPEG on a background",
            fix="choose another ending, or add a background such as white",
        )
    return name


def _try(work: Callable[[], Any]) -> Any:
    """Return the result, or the error that this photo alone is to blame for."""
    try:
        return work()
    except InputError as error:
        return error


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took, in milliseconds."""
    start = time.perf_counter()
    yield
    timings[stage] = round((time.perf_counter() - start) * 1000, 1)
