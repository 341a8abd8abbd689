"""BackgroundRemover and remove: the chain with a network at hand, for one photo or many."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Self, Unpack

from PIL import Image

from cutray.chain import cut_out, postprocess, upload
from cutray.config import EngineSettings, RemoverSettings, overlay, parse_settings
from cutray.errors import CutrayError, EngineError, InputError, OptionError
from cutray.models.preset_networks import name_networks
from cutray.options import PhotoOptions, RemoverOptions
from cutray.preflight import check_output_settings
from cutray.removal import Removal as Removal
from cutray.segmenter import Segmenter, settle_settings
from cutray.sources import Destination, Photo, Source, decode_source, output_format, write_result
from cutray.stage_timer import StageTimer
from cutray.tta import predict

Progress = Callable[[str, int, int | None], None]


class BackgroundRemover:
    """Removes backgrounds. Loads its network once; safe to use from several threads.

    It pickles as its settings. Where it arrives, as in a pool of processes or on another machine, it loads its network
    with the first photo; so it does in a process that is forked from this one.

    >>> remover = BackgroundRemover()  # doctest: +SKIP
    >>> cutout, mask = remover.remove_background("input.jpg", "output.png")  # doctest: +SKIP
    """

    def __init__(
        self, model: str | None = None, *, progress: Progress | None = None, **settings: Unpack[RemoverOptions]
    ) -> None:
        """Load a model.

        Args:
            model: Name (``u2net``, ``u2netp``, …) or path of an .onnx, .pth or .safetensors file. None is
                ``u2net-lean``; with quality ``fast`` it is ``u2net-lean-288``, and with ``best`` ``u2net+isnet`` where
                the weights of isnet are on this machine.
            progress: Called with file name, bytes so far and all bytes while weights are downloaded.
            settings: Any field of ``cutray.config.RemoverSettings``; they become the defaults of each call.

        Raises:
            ConfigError: A setting is unknown or has a value that is not allowed.
            WeightsError: The weights are unknown, damaged or not obtainable.
            EngineError: The engine is not available or cannot use the weights.
        """
        named = {} if model is None else {"model": str(model)}
        self._keep(parse_settings(RemoverSettings, {**named, **settings}))
        self.segmenter = _load_network(self.settings, progress)

    @classmethod
    def from_settings(
        cls, settings: RemoverSettings, *, progress: Progress | None = None, segmenter: Segmenter | None = None
    ) -> Self:
        """Load the model that checked settings name.

        Args:
            settings: The model, its engine, and the defaults of each call.
            progress: Called with file name, bytes so far and all bytes while weights are downloaded.
            segmenter: That model, if it is loaded already.

        Raises:
            WeightsError: The weights are unknown, damaged or not obtainable.
            EngineError: The engine is not available or cannot use the weights.
        """
        remover = cls.__new__(cls)
        remover._keep(settings)
        remover.segmenter = segmenter or _load_network(remover.settings, progress)
        return remover

    def _keep(self, settings: RemoverSettings) -> None:
        """Keep the settings; the network is loaded when it is needed."""
        self.settings = settle_settings(settings)
        self._segmenter: Segmenter | None = None
        self._loading = threading.Lock()
        _removers.add(self)

    @property
    def segmenter(self) -> Segmenter:
        """The network; loaded now if it is not yet, as after unpickling.

        Raises:
            WeightsError: The weights are not obtainable here.
            EngineError: The engine is not available here, or this process was forked from one that uses a GPU.
        """
        if self._segmenter is None:
            with self._loading:
                if self._segmenter is None:
                    self._segmenter = _load_network(self.settings)
        return self._segmenter

    @segmenter.setter
    def segmenter(self, segmenter: Segmenter) -> None:
        """Put another network in its place."""
        self._segmenter = segmenter

    def __getstate__(self) -> dict[str, Any]:
        """Travel as the settings, with the attributes of a subclass."""
        own = ("_segmenter", "_loading")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive without a network."""
        self.__dict__.update(state)
        self._keep(self.settings)

    def _forget_network(self) -> Segmenter | None:
        """Give up a network that this process has inherited; its threads, locks and devices were not copied."""
        inherited, self._segmenter = self._segmenter, None
        self._loading = threading.Lock()
        return inherited

    def remove_background(
        self,
        source: Source,
        destination: Destination | None = None,
        *,
        overwrite: bool = True,
        **options: Unpack[PhotoOptions],
    ) -> Removal:
        """Cut the subject out of one photo.

        Args:
            source: Path, encoded bytes, open binary file, Pillow image, or (H, W[, 1|3|4]) array of sRGB samples.
            destination: File to write, atomically, or an open binary file, written from where it stands. The ending of
                its name gives the format. None writes nothing.
            overwrite: Whether an existing file may be replaced.
            options: Any field of ``RemoverSettings`` but those of the engine, for this call alone.

        Returns:
            ``(cutout, mask)``, with ``.report`` and the encoded ``.data``.

        Raises:
            InputError: The photo or an option cannot be used.
            ConfigError: An option is unknown or has a value that is not allowed.
            EngineError: The network failed.
            OutputError: The destination cannot be written.
        """
        settings = self._with(dict(options))
        format_name = output_format(settings, destination)
        removal = _like_source(cut_out(source, settings, format_name, self.segmenter), source)
        if destination is not None:
            write_result(destination, removal.data, overwrite=overwrite)
        return removal

    def remove_many(
        self, sources: Iterable[Source], **options: Unpack[PhotoOptions]
    ) -> Iterator[Removal | CutrayError]:
        """Cut out many photos, several per forward pass; nothing is written.

        Args:
            sources: As for ``remove_background``; read lazily, so any number will do.
            options: As for ``remove_background``.

        Yields:
            For each source in order its result, or the error that kept it from having one.

        Raises:
            ConfigError: An option is unknown or has a value that is not allowed.
            OptionError: The background or the format is wrong for all photos; found before the first one.
            EngineError: The network failed.
        """
        settings = self._with(dict(options))
        check_output_settings(settings)
        format_name = output_format(settings, None)
        stream = iter(sources)
        while chunk := list(islice(stream, settings.batch_size)):
            yield from self._remove_chunk(chunk, settings, format_name)

    def _remove_chunk(
        self, sources: Sequence[Source], settings: RemoverSettings, format_name: str
    ) -> Iterator[Removal | CutrayError]:
        """Decode a few photos, predict them together, and post-process each on its own."""
        photos = [_try(partial(decode_source, source, settings)) for source in sources]
        good = [photo for photo in photos if isinstance(photo, Photo)]
        residents = [upload(photo, self.segmenter, settings) for photo in good]
        views = [photo.view for photo in good]
        predicted = predict(views, self.segmenter, settings.of_views, settings.batch_size, residents)
        results = zip(predicted, residents, strict=True)
        for source, photo in zip(sources, photos, strict=True):
            if isinstance(photo, CutrayError):
                yield photo
                continue
            network = self.segmenter.info
            prediction, resident = next(results)
            work = partial(postprocess, photo, prediction, settings, format_name, network, StageTimer())
            removal = _try(partial(work, resident=resident))
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
        if options.get("template"):  # what the remover was not told itself comes from this one, not from its own
            return parse_settings(RemoverSettings, overlay(self.settings.model_dump(exclude_unset=True), options))
        return parse_settings(RemoverSettings, overlay(self.settings.model_dump(exclude={"template"}), options))


def _load_network(settings: RemoverSettings, progress: Progress | None = None) -> Segmenter:
    """Load a network, if need be as a process that was forked from one with networks can.

    Raises:
        WeightsError: The weights are unknown, damaged or not obtainable.
        EngineError: The engine is not available or cannot use the weights, or a GPU is not available after a fork.
    """
    if settings.device != "cpu" and any(one.engine.device != "cpu" for one in _inherited):
        raise EngineError(
            got="a process that is forked from one with a network on a GPU cannot use the GPU",
            fix='start processes with multiprocessing.get_context("spawn"), or use device cpu',
        )
    if any(name in one.engine.name for name in ("pytorch", "mnn") for one in _inherited):
        # OpenMP, which PyTorch and MNN compute with, waits for ever for the threads that it had before the fork.
        settings = settings.model_copy(update={"threads": 1})
    return Segmenter.load(settings, progress)


# All removers of this process, and the networks that it has inherited from the process that it was forked from.
_removers: weakref.WeakSet[BackgroundRemover] = weakref.WeakSet()
_inherited: list[Segmenter] = []


def _forget_networks() -> None:
    """Have a forked process load networks of its own: a fork copies neither threads nor devices, and locks as held."""
    import ctypes

    for remover in list(_removers):
        if (segmenter := remover._forget_network()) is not None:
            # Never destroyed, not even at exit: the destructors of engines wait for threads that are not there.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(segmenter))
            _inherited.append(segmenter)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_networks)


@lru_cache(maxsize=2)
def _shared(model: str) -> BackgroundRemover:
    """Keep the last two models loaded between calls of ``remove``."""
    return BackgroundRemover(model)


def _model_of(options: PhotoOptions) -> str:
    """Name the model of a call that names none."""
    chosen = {name: value for name, value in options.items() if name in ("quality", "compat")}
    return name_networks(parse_settings(RemoverSettings, chosen)).model


def remove(
    source: Source,
    destination: Destination | None = None,
    *,
    model: str | None = None,
    overwrite: bool = True,
    **options: Unpack[PhotoOptions],
) -> Removal:
    """Cut the subject out of one photo in one call; the model stays loaded for the next one.

    Args:
        source: As for ``BackgroundRemover.remove_background``.
        destination: As for ``BackgroundRemover.remove_background``.
        model: Name or path of the model; None as for ``BackgroundRemover``.
        overwrite: Whether an existing file may be replaced.
        options: As for ``BackgroundRemover.remove_background``.

    Returns:
        ``(cutout, mask)``, with ``.report`` and ``.data``.

    Raises:
        CutrayError: As ``BackgroundRemover`` and its ``remove_background`` do.
    """
    return _shared(model or _model_of(options)).remove_background(source, destination, overwrite=overwrite, **options)


def _like_source(removal: Removal, source: Source) -> Removal:
    """Return Pillow images to whoever gave one."""
    return removal.as_pillow() if isinstance(source, Image.Image) else removal


def _try(work: Callable[[], Any]) -> Any:
    """Return the result, or the error that this photo alone is to blame for."""
    try:
        return work()
    except InputError as error:
        return error
