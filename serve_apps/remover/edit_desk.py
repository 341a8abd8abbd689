"""What a Cutter does with an edit: begin it, correct it by marks, show its mask, make the picture, give it up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np

from cutray.chain import render_result, report_of
from cutray.config import RemoverSettings, overlay, parse_settings
from cutray.edit import Edit
from cutray.hints import Hints, read_hints
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.imaging.encode import encode_image
from cutray.imaging.resize import resize_within
from cutray.imaging.subject_box import Box
from cutray.removal import RemovalReport
from cutray.segmenter import NetworkInfo
from cutray.sources import decode_source, output_format
from cutray.stage_timer import StageTimer
from cutray.tta import Prediction
from serve_apps.remover.edits import EditStore, KeptEdit, shown_alpha
from serve_apps.remover.schemas import CutReply, CutRequest, EditReply, ErrorReply, Limits

Predict = Callable[[np.ndarray, RemoverSettings, str], Awaitable[tuple[Prediction, NetworkInfo]]]
# These change how a photo is decoded, so that it has to be decoded again for a result with another value.
_DECODING = ("bit_depth", "color_profile", "metadata")


class EditDesk:
    """Works on the edits of one Cutter."""

    def __init__(self, replica: str, limits: Limits, predict: Predict) -> None:
        """Begin without edits.

        Args:
            replica: Id of the replica.
            limits: How many edits, how much memory, how long.
            predict: Has the network of the named model run on a picture.
        """
        self._replica, self._predict = replica, predict
        self._store = EditStore(replica, limits)

    async def handle(
        self, action: str, request: CutRequest, settings: RemoverSettings, backdrop: DecodedImage | None
    ) -> EditReply | CutReply | ErrorReply:
        """Do one thing with an edit.

        Args:
            action: open, mark, alpha, result or close.
            request: The edit, and what is wanted.
            settings: The request's options, checked.
            backdrop: A picture to lay the subject on.

        Raises:
            InputError: The photo or a hint cannot be used.
            EditGoneError: There is no such edit.
            EditRoomError: There is no room for another one.
        """
        if action == "open":
            return await self._open(request, settings)
        if not request.edit_id.startswith(f"{self._replica}."):
            return ErrorReply("edit_elsewhere", "")
        if action == "close":
            self._store.drop(request.edit_id, request.owner)
            return ErrorReply("", "")
        kept = self._store.get(request.edit_id, request.owner)
        async with kept.lock:
            if request.revision is not None and request.revision != kept.revision:
                return ErrorReply(
                    "edit_changed", f"The edit is at revision {kept.revision}, not {request.revision}: fetch /alpha."
                )
            if action == "mark":
                return await self._mark(request, kept, settings)
            if action == "alpha":
                return await asyncio.to_thread(_show, request, kept)
            return await asyncio.to_thread(_finish, request, kept, backdrop)

    async def _open(self, request: CutRequest, settings: RemoverSettings) -> EditReply:
        """Take a photo in."""
        strokes = await asyncio.to_thread(_decode_strokes, request, settings)
        photo = await asyncio.to_thread(decode_source, request.data, settings, strokes)
        hints = photo.hints or Hints(*photo.flattened.shape[:2])
        edit = Edit(photo.flattened, settings)
        prediction, network = await self._predict(hints.cut_view(photo.flattened), settings.of_views, request.model)
        edit.add(hints, prediction)
        matte = await asyncio.to_thread(edit.matte, hints)
        alpha = await asyncio.to_thread(shown_alpha, matte, photo, settings)
        kept = KeptEdit(
            request.owner, request.data, photo, settings, edit, network, prediction.looks, matte, alpha, request.model
        )
        edit_id = self._store.put(kept)
        return EditReply(edit_id, 0, (0, 0, hints.width_px, hints.height_px), _report(kept))

    async def _mark(self, request: CutRequest, kept: KeptEdit, settings: RemoverSettings) -> EditReply:
        """Put all hints in the place of those before; asks the network only if the box is a new one."""
        strokes = await asyncio.to_thread(_decode_strokes, request, settings)
        height, width = kept.alpha.shape
        hints = await asyncio.to_thread(read_hints, settings, height, width, settings, strokes) or Hints(height, width)
        view = kept.edit.missing_view(hints)
        if view is not None:
            boxed = kept.settings.model_copy(update={"box": settings.box})
            prediction, kept.network = await self._predict(view, boxed.of_views, kept.model)
            kept.edit.add(hints, prediction)
            kept.looks = prediction.looks
        box = await _apply(kept, hints)
        if box is None:
            return EditReply(request.edit_id, kept.revision, (0, 0, 0, 0), _report(kept))
        data = await asyncio.to_thread(kept.encode_alpha, box)
        return EditReply(request.edit_id, kept.revision, box, _report(kept), data)


async def _apply(kept: KeptEdit, hints: Hints) -> Box | None:
    """Compute the mask anew in a thread; returns what has changed.

    A thread cannot be stopped. A request that is given up waits for it, so that the edit stays locked until then.
    """
    work = asyncio.create_task(asyncio.to_thread(kept.apply, hints))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise


def _decode_strokes(request: CutRequest, settings: RemoverSettings) -> DecodedImage | None:
    """Decode the picture of strokes."""
    return None if request.strokes is None else decode_image(request.strokes, settings)


def _report(kept: KeptEdit) -> RemovalReport:
    """Describe the mask as it is now."""
    height, width = kept.alpha.shape
    notes = kept.photo.image.notes + kept.matte.notes
    whole = (0, 0, width, height)
    return report_of(kept.photo, kept.looks, kept.matte, whole, kept.settings, kept.network, notes=notes)


def _show(request: CutRequest, kept: KeptEdit) -> EditReply:
    """Encode the whole mask, shrunk if that is asked for."""
    height, width = kept.alpha.shape
    alpha = kept.alpha if request.max_side_px is None else resize_within(kept.alpha, request.max_side_px)
    whole = (0, 0, width, height)
    return EditReply(request.edit_id, kept.revision, whole, _report(kept), encode_image(alpha, "PNG"))


def _finish(request: CutRequest, kept: KeptEdit, backdrop: DecodedImage | None) -> CutReply:
    """Make the picture with the options of this request in the place of those that the edit began with."""
    settings = parse_settings(RemoverSettings, overlay(kept.settings.model_dump(), request.options))
    format_name = output_format(settings, None)
    photo = kept.photo
    if any(getattr(settings, name) != getattr(kept.settings, name) for name in _DECODING):
        unhinted = settings.model_copy(update={"box": None, "keep": None, "drop": None})
        photo = decode_source(kept.data, unhinted)
    removal = render_result(
        photo, kept.looks, kept.matte, settings, format_name, kept.network, StageTimer(), backdrop=backdrop
    )
    return CutReply(removal.data, format_name, removal.report)
