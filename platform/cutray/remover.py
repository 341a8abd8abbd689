"""BackgroundRemover and remove: the chain with a network at hand, for one photo or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image

from cutray.chain import Looks, RemovalReport, Source, decode_source, finish, output_format, timed
from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.errors import CutrayError, InputError, OptionError
from cutray.imaging.decode import DecodedImage
from cutray.imaging.files import write_atomically
from cutray.matting.looks import Seen
from cutray.segmenter import Segmenter

Progress = Callable[[str, int, int | None], None]


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
        with timed(timings, "decode"):
            image = decode_source(source, settings)
        with timed(timings, "segment"):
            (seen,) = self._look([image], settings)
        removal = self._finish(source, image, seen, settings, format_name, timings)
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
        """Decode a few photos, look at them together, and finish each on its own."""
        images = [_try(partial(decode_source, source, settings)) for source in sources]
        good = [image for image in images if isinstance(image, DecodedImage)]
        found = iter(self._look(good, settings))
        for source, image in zip(sources, images, strict=True):
            if isinstance(image, CutrayError):
                yield image
                continue
            yield _try(partial(self._finish, source, image, next(found), settings, format_name, {}))

    def _look(self, images: Sequence[DecodedImage], settings: RemoverSettings) -> list[Seen]:
        """Go through the looks of all photos side by side; those of one stage share forward passes."""
        spec = self.segmenter.weights.spec
        photos = [Looks(image, spec, settings) for image in images]
        while waiting := [(photo, photo.wanted) for photo in photos if photo.wanted is not None]:
            tensors = np.concatenate([wanted for _, wanted in waiting])
            starts = range(0, len(tensors), settings.batch_size)
            passes = (self.segmenter.engine.infer(tensors[start : start + settings.batch_size]) for start in starts)
            maps = np.concatenate(list(passes))
            for photo, wanted in waiting:
                photo.show(maps[: len(wanted)])
                maps = maps[len(wanted) :]
        return [photo.seen for photo in photos]

    def _finish(
        self,
        source: Source,
        image: DecodedImage,
        seen: Seen,
        settings: RemoverSettings,
        format_name: str,
        timings: dict[str, float],
    ) -> Removal:
        """Turn what the network saw into what the caller gets."""
        engine = f"{self.segmenter.engine.name} {self.segmenter.engine.device} {self.segmenter.engine.precision}"
        names = (self.segmenter.weights.spec.name, engine)
        rendered, data, report = finish(image, seen, settings, format_name, names, timings)
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


def _try(work: Callable[[], Any]) -> Any:
    """Return the result, or the error that this photo alone is to blame for."""
    try:
        return work()
    except InputError as error:
        return error
