"""The Cutter replica: decodes, prepares, finishes and encodes. Full-size pixels never leave it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle

from cutray.chain import postprocess
from cutray.config import InputLimits, RemoverSettings, parse_settings
from cutray.errors import ConfigError, CutrayError, InputError, MissingExtraError
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.models.catalog import ModelSpec
from cutray.segmenter import NetworkInfo
from cutray.sources import decode_source, output_format
from cutray.stage_timer import StageTimer
from cutray.tta import Prediction, TTARunner
from serve_apps.remover.edit_desk import EditDesk
from serve_apps.remover.edits import EditGoneError, EditRoomError
from serve_apps.remover.replicas import lower_priority, replica_lost
from serve_apps.remover.schemas import CutReply, CutRequest, EditReply, ErrorReply, Limits, PreprocessSpec, Probs

# Serve sends a call by gRPC, which is faster than Ray's object store but takes messages of at most 4 MB.
_LARGEST_DIRECT_BYTES = 3 << 20


class Cutter:
    """Does everything with a photo but run the network, with the functions that the command line uses."""

    def __init__(self, segmenter: DeploymentHandle, limits: Limits, threads: int = 1) -> None:
        """Keep the way to the Segmenters.

        Args:
            segmenter: Handle of the Segmenter deployment.
            limits: What a photo may cost.
            threads: Threads of OpenCV in this replica.
        """
        lower_priority()
        cv2.setNumThreads(threads)
        self._segmenter = segmenter
        self._segmenter_direct = segmenter.options(_by_reference=False)
        self._limits = {"max_bytes": limits.max_image_bytes, "max_megapixels": limits.max_megapixels}
        self._spec: ModelSpec | None = None
        replica = serve.get_replica_context().replica_id.unique_id
        self._desk = EditDesk(replica, limits, self._predict_for_edit)

    async def cut(self, request: CutRequest) -> CutReply | ErrorReply:
        """Cut the subject out of one photo.

        Args:
            request: The photo and what is wanted.

        Returns:
            The result, or why there is none.
        """
        reply = await self._answer(request, self._cut)
        return cast("CutReply | ErrorReply", reply)

    async def edit(self, action: str, request: CutRequest) -> CutReply | EditReply | ErrorReply:
        """Do one thing with a photo that is being edited.

        Args:
            action: open, mark, alpha, result or close.
            request: The edit, and what is wanted.

        Returns:
            How the edit stands, or the result, or why there is neither.
        """
        try:
            reply = await self._answer(request, partial(self._desk.handle, action))
            return cast("CutReply | EditReply | ErrorReply", reply)
        except EditGoneError:
            return ErrorReply("edit_gone", "")
        except EditRoomError:
            return ErrorReply("overloaded", "Others are editing so many photos that there is no room for another one.")

    async def _answer(
        self,
        request: CutRequest,
        work: Callable[[CutRequest, RemoverSettings, DecodedImage | None], Awaitable[Any]],
    ) -> Any:
        """Check the request's options, do its work in the time that is left, and turn what is wrong into a reply."""
        try:
            async with asyncio.timeout(request.seconds_left):
                settings = parse_settings(RemoverSettings, {**request.options, **self._limits})
                try:
                    backdrop = await asyncio.to_thread(_decode_backdrop, request.backdrop, settings)
                except (InputError, MissingExtraError) as error:
                    code = error.code if isinstance(error, InputError) else "unsupported_format"
                    return ErrorReply(code, f"background_image: {error}", of_request=True)
                return await work(request, settings, backdrop)
        except TimeoutError:
            return ErrorReply("deadline_exceeded", "The photo was not done in time.")
        except MissingExtraError as error:
            return ErrorReply("unsupported_format", str(error))
        except InputError as error:
            return ErrorReply(error.code, str(error))
        except ConfigError as error:  # the endpoint's own limits are lower than the settings'
            return ErrorReply("bad_option", error.got)
        except MemoryError:
            return ErrorReply("too_large", "The photo needs more memory than there is.")

    async def _cut(self, request: CutRequest, settings: RemoverSettings, backdrop: DecodedImage | None) -> CutReply:
        """Go through the stages; those that compute run in threads, so that others can be taken meanwhile."""
        format_name = "ZIP" if request.as_zip else output_format(settings, None)
        timer = StageTimer()
        with timer.stage("decode"):
            drawn = request.strokes
            strokes = None if drawn is None else await asyncio.to_thread(decode_image, drawn, settings)
            photo = await asyncio.to_thread(decode_source, request.data, settings, strokes)
        started = time.perf_counter()
        prediction, answers = await self._predict(photo.view, settings.of_views)
        forward_ms = sum(answer.forward_ms for answer in answers)
        timer.add("segment", forward_ms)
        timer.add("queue", max(0.0, (time.perf_counter() - started) * 1000 - forward_ms))
        removal = await asyncio.to_thread(
            postprocess, photo, prediction, settings, format_name, answers[0].network, timer, backdrop=backdrop
        )
        height_px, width_px = removal.mask.shape
        return CutReply(removal.data, format_name, removal.report, width_px, height_px)

    async def _predict_for_edit(self, image: np.ndarray, settings: RemoverSettings) -> tuple[Prediction, NetworkInfo]:
        """Have all views predicted, and name the network."""
        prediction, answers = await self._predict(image, settings)
        return prediction, answers[0].network

    async def _predict(self, image: np.ndarray, settings: RemoverSettings) -> tuple[Prediction, list[Probs]]:
        """Have all views predicted; begin again if the model was swapped, ask another replica if the first was lost."""
        for attempt in range(4):
            try:
                spec = self._spec = self._spec or await self._segmenter.spec.remote()
                runner = await asyncio.to_thread(TTARunner, image, spec, settings)
                answers: list[Probs] = []
                while runner.next_batch is not None:
                    small = runner.next_batch.nbytes <= _LARGEST_DIRECT_BYTES
                    segmenter = self._segmenter_direct if small else self._segmenter
                    answer = await segmenter.segment.remote(runner.next_batch, PreprocessSpec.of(spec))
                    if not isinstance(answer, Probs):
                        self._spec = answer
                        break
                    answers.append(answer)
                    await asyncio.to_thread(runner.update, answer.maps)
                # Two models may need the same preprocessing; all views of a photo must come from one of them.
                if runner.next_batch is None and len({answer.network.model for answer in answers}) == 1:
                    return runner.result, answers
            except Exception as error:
                if attempt == 3 or not replica_lost(error):
                    raise
        raise CutrayError(got="the model is being swapped again and again", fix="try again later")


def _decode_backdrop(data: bytes | None, limits: InputLimits) -> DecodedImage | None:
    """Decode the picture that the subject is laid on."""
    return None if data is None else decode_image(data, limits, keep_profile=True)
