"""The chain that one photo goes through: decode → predict → matte → render → encode.

The library runs all of it with a loaded network, see ``cut_out``. The endpoint decodes and post-processes with the same
functions, and has another process run the network on the batches of a ``TTARunner``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cutray.config import RemoverSettings
from cutray.imaging.decode import DecodedImage
from cutray.matting.matte import Matte, compute_matte
from cutray.removal import Removal, RemovalReport
from cutray.render import Rendered, encode, render, shape_alpha
from cutray.segmenter import NetworkInfo, Segmenter
from cutray.sources import Photo, Source, decode_source
from cutray.tta import Prediction, predict


class StageTimer:
    """Milliseconds of each stage.

    Attributes:
        milliseconds: By name of the stage, in the order in which they ended.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        yield
        self.add(name, (time.perf_counter() - start) * 1000)

    def add(self, name: str, milliseconds: float) -> None:
        """Note the time of a stage, to a tenth of a millisecond."""
        self.milliseconds[name] = round(milliseconds, 1)


def cut_out(source: Source, settings: RemoverSettings, format_name: str, segmenter: Segmenter) -> Removal:
    """Take one photo through the whole chain.

    Args:
        source: Path, encoded bytes, Pillow image or array.
        settings: What is asked for.
        format_name: PNG, WEBP, AVIF, JPEG or TIFF, from ``output_format``.
        segmenter: The loaded network.

    Returns:
        The pictures as arrays, the encoded file and the report.

    Raises:
        InputError: The photo or an option cannot be used.
        EngineError: The network failed.
        OutputError: The encoder failed.
    """
    timer = StageTimer()
    with timer.stage("decode"):
        photo = decode_source(source, settings)
    with timer.stage("segment"):
        (prediction,) = predict([photo.flattened], segmenter, settings, settings.batch_size)
    return postprocess(photo, prediction, settings, format_name, segmenter.info, timer)


def postprocess(
    photo: Photo,
    prediction: Prediction,
    settings: RemoverSettings,
    format_name: str,
    network: NetworkInfo,
    timer: StageTimer,
    *,
    backdrop: DecodedImage | None = None,
) -> Removal:
    """Turn a prediction into the picture that was asked for: matte, render, encode.

    Args:
        photo: From ``decode_source``.
        prediction: From ``predict`` or a ``TTARunner``.
        settings: What is asked for.
        format_name: PNG, WEBP, AVIF, JPEG or TIFF, from ``output_format``.
        network: What made the prediction, for the report.
        timer: Holds the stages so far.
        backdrop: A decoded picture that takes the place of ``settings.background``.

    Returns:
        The pictures as arrays, the encoded file and the report.

    Raises:
        InputError: An option cannot be used.
        OutputError: The encoder failed.
    """
    with timer.stage("matte"):
        matte = compute_matte(photo.flattened, prediction.probs, prediction.map_size, settings)
        alpha = shape_alpha(matte.alpha, photo.image, settings)
    with timer.stage("render"):
        clean = settings.clean_edges and not settings.compat
        rendered = render(photo.image, alpha, settings, clean_edges=clean, limits=settings, backdrop=backdrop)
    with timer.stage("encode"):
        data = encode(rendered, photo.image, settings, format_name)
    report = _report(photo, prediction.looks, matte, rendered, settings, network, timer)
    return Removal(rendered.picture, rendered.mask, report, data)


def _report(
    photo: Photo,
    looks: int,
    matte: Matte,
    rendered: Rendered,
    settings: RemoverSettings,
    network: NetworkInfo,
    timer: StageTimer,
) -> RemovalReport:
    """Collect what is known about a removal."""
    subject = matte.subject
    return RemovalReport(
        subject_found=subject.found,
        confidence=round(subject.confidence, 4),
        area_fraction=round(subject.area_fraction, 4),
        width_px=photo.image.pixels.shape[1],
        height_px=photo.image.pixels.shape[0],
        box=rendered.box,
        model=network.model,
        engine=str(network.engine),
        looks=looks,
        notes=photo.image.notes + matte.notes + rendered.notes,
        edge_cases=matte.edge_cases if settings.edge_cases else (),
        timings_ms=timer.milliseconds,
    )
