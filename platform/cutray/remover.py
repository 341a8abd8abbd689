"""BackgroundRemover and remove: the chain with a network at hand, for one photo or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from os import PathLike
from typing import Any, Self

from PIL import Image

from cutray.chain import StageTimer, cut_out, postprocess
from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.errors import CutrayError, InputError, OptionError
from cutray.imaging.files import write_atomically
from cutray.removal import Removal as Removal
from cutray.segmenter import Segmenter
from cutray.sources import Photo, Source, decode_source, output_format
from cutray.tta import predict

Progress = Callable[[str, int, int | None], None]


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
        self._load(parse_settings(RemoverSettings, {"model": str(model), **settings}), progress)

    @classmethod
    def from_settings(cls, settings: RemoverSettings, *, progress: Progress | None = None) -> Self:
        """Load the model that checked settings name.

        Args:
            settings: The model, its engine, and the defaults of each call.
            progress: Called with file name, bytes so far and all bytes while weights are downloaded.

        Raises:
            WeightsError: The weights are unknown, damaged or not obtainable.
            EngineError: The engine is not available or cannot use the weights.
        """
        remover = cls.__new__(cls)
        remover._load(settings, progress)
        return remover

    def _load(self, settings: RemoverSettings, progress: Progress | None) -> None:
        """Keep the settings and load the network."""
        if settings.compat and settings.precision == "auto":
            # bf16 would move single pixels by more than the recipe's own rounding
            settings = settings.model_copy(update={"precision": "fp32"})
        self.settings = settings
        self.segmenter = Segmenter.load(settings, progress)

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
        removal = _like_source(cut_out(source, settings, format_name, self.segmenter), source)
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
        """Decode a few photos, predict them together, and post-process each on its own."""
        photos = [_try(partial(decode_source, source, settings)) for source in sources]
        good = [photo.flattened for photo in photos if isinstance(photo, Photo)]
        predictions = iter(predict(good, self.segmenter, settings, settings.batch_size))
        for source, photo in zip(sources, photos, strict=True):
            if isinstance(photo, CutrayError):
                yield photo
                continue
            network = self.segmenter.info
            work = partial(postprocess, photo, next(predictions), settings, format_name, network, StageTimer())
            removal = _try(work)
            yield _like_source(removal, source) if isinstance(removal, Removal) else removal

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


def _like_source(removal: Removal, source: Source) -> Removal:
    """Return Pillow images to whoever gave one."""
    return removal.as_pillow() if isinstance(source, Image.Image) else removal


def _try(work: Callable[[], Any]) -> Any:
    """Return the result, or the error that this photo alone is to blame for."""
    try:
        return work()
    except InputError as error:
        return error
