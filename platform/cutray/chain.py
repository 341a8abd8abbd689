"""The chain that one photo goes through: decode → predict → matte → render → encode.

The library runs all of it with a loaded network, see ``cut_out``. The endpoint decodes and post-processes with the same
functions, and has another process run the network on the batches of a ``TTARunner``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from cutray.config import HintSettings, RemoverSettings
from cutray.edit import matte_photo
from cutray.engines.base import ResidentEngine, ResidentPhoto
from cutray.errors import lack_of_memory_as_error
from cutray.hints import Hints, read_hints
from cutray.imaging.decode import DecodedImage
from cutray.matting.matte import Matte
from cutray.removal import Removal, RemovalReport
from cutray.render import encode, render, shape_alpha
from cutray.segmenter import NetworkInfo, Segmenter
from cutray.sources import Photo, Source, decode_source
from cutray.stage_timer import StageTimer
from cutray.tta import Prediction, predict


@lack_of_memory_as_error()
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
        InputError: The photo or an option cannot be used, or memory runs out.
        EngineError: The network failed.
        OutputError: The encoder failed.
    """
    timer = StageTimer()
    with timer.stage("decode"):
        photo = decode_source(source, settings)
    with timer.stage("segment"):
        resident = upload(photo, segmenter, settings)
        (prediction,) = predict([photo.view], segmenter, settings.of_views, settings.batch_size, [resident])
    removal = postprocess(photo, prediction, settings, format_name, segmenter.info, timer, resident=resident)
    if not settings.compat:
        removal._correct = partial(_correct, photo, prediction, settings, format_name, segmenter.info)
    return removal


def upload(photo: Photo, segmenter: Segmenter, settings: RemoverSettings) -> ResidentPhoto | None:
    """Bring a photo to the network's device, if the engine keeps photos there.

    The classic recipe has filters of its own, and a photo with hints is cut into parts: both stay on the processor.
    """
    if settings.compat or photo.hints is not None or not isinstance(segmenter.engine, ResidentEngine):
        return None
    return segmenter.engine.upload(photo.flattened)


def _correct(
    photo: Photo,
    prediction: Prediction,
    settings: RemoverSettings,
    format_name: str,
    network: NetworkInfo,
    marks: HintSettings,
) -> Removal:
    """Take a photo through the chain again from the matte on, with further marks."""
    height, width = photo.flattened.shape[:2]
    before = photo.hints or Hints(height, width)
    later = read_hints(marks, height, width, settings)
    marked = replace(photo, hints=before if later is None else before.with_marks(later))
    removal = postprocess(marked, prediction, settings, format_name, network, StageTimer())
    removal._correct = partial(_correct, marked, prediction, settings, format_name, network)
    return removal


@lack_of_memory_as_error()
def postprocess(
    photo: Photo,
    prediction: Prediction,
    settings: RemoverSettings,
    format_name: str,
    network: NetworkInfo,
    timer: StageTimer,
    *,
    backdrop: DecodedImage | None = None,
    resident: ResidentPhoto | None = None,
) -> Removal:
    """Turn a prediction into the picture that was asked for: matte, then ``render_result``, which describes the rest.

    Args:
        photo: From ``decode_source``.
        prediction: From ``predict`` or a ``TTARunner``.
        resident: From ``upload``.
    """
    with timer.stage("matte"):
        matte = matte_photo(photo, prediction, settings, resident)
    return render_result(photo, prediction.looks, matte, settings, format_name, network, timer, backdrop=backdrop)


def render_result(
    photo: Photo,
    looks: int,
    matte: Matte,
    settings: RemoverSettings,
    format_name: str,
    network: NetworkInfo,
    timer: StageTimer,
    *,
    backdrop: DecodedImage | None = None,
) -> Removal:
    """Turn an alpha channel into the picture that was asked for: render, encode.

    Args:
        photo: From ``decode_source``.
        looks: How many views the network has seen.
        matte: From ``matte_photo`` or an ``Edit``.
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
    with timer.stage("render"):
        alpha = shape_alpha(matte.alpha, photo.image, settings)
        clean = settings.clean_edges and not settings.compat
        rendered = render(photo.image, alpha, settings, clean_edges=clean, limits=settings, backdrop=backdrop)
    with timer.stage("encode"):
        data = encode(rendered, photo.image, settings, format_name)
    notes = photo.image.notes + matte.notes + rendered.notes
    report = report_of(photo, looks, matte, rendered.box, settings, network, notes=notes, timings_ms=timer.milliseconds)
    return Removal(rendered.picture, rendered.mask, report, data, metadata=photo.image.metadata)


def report_of(
    photo: Photo,
    looks: int,
    matte: Matte,
    box: tuple[int, int, int, int],
    settings: RemoverSettings,
    network: NetworkInfo,
    *,
    notes: tuple[str, ...] = (),
    timings_ms: dict[str, float] | None = None,
) -> RemovalReport:
    """Collect what is known about a removal.

    Args:
        photo: From ``decode_source``.
        looks: How many views the network has seen.
        matte: Its mask.
        box: Left, top, right, bottom of the result within the photo, in pixels.
        settings: What was asked for.
        network: What made the prediction.
        notes: What was left out or changed.
        timings_ms: Milliseconds of each stage.
    """
    subject = matte.subject
    return RemovalReport(
        subject_found=subject.found,
        confidence=round(subject.confidence, 4),
        area_fraction=round(subject.area_fraction, 4),
        width_px=photo.image.pixels.shape[1],
        height_px=photo.image.pixels.shape[0],
        box=box,
        model=network.model,
        engine=str(network.engine),
        looks=looks,
        notes=notes,
        edge_cases=matte.edge_cases if settings.edge_cases else (),
        objects=matte.objects,
        timings_ms=timings_ms or {},
    )
