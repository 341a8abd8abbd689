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
from cutray.config import DriftSettings, InputLimits, RemoverSettings, parse_settings
from cutray.errors import ConfigError, InputError, MissingExtraError
from cutray.freed_memory import keep_freed_memory
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.segmenter import NetworkInfo
from cutray.sources import decode_source, output_format
from cutray.stage_timer import StageTimer
from cutray.tta import Prediction
from serve_apps.drift.monitor import DriftMonitor, SeenPhoto
from serve_apps.remover.edit_desk import EditDesk
from serve_apps.remover.edits import EditGoneError, EditRoomError
from serve_apps.remover.errors import ApiError
from serve_apps.remover.model_names import DEFAULT_DEPLOYMENT
from serve_apps.remover.remote_network import RemoteNetwork
from serve_apps.remover.replicas import lower_priority
from serve_apps.remover.schemas import (
    CutReply,
    CutRequest,
    EditReply,
    ErrorReply,
    InferReply,
    InferRequest,
    Limits,
    Probs,
)
from serve_apps.remover.tensors import read_request, write_response
from serve_apps.remover.tracing import open_tracer
from serve_apps.rollout.lane import ChallengerLane
from serve_apps.rollout.records import name_of


class Cutter:
    """Does everything with a photo but run the network, with the functions that the command line uses."""

    def __init__(
        self,
        segmenters: dict[str, DeploymentHandle],
        limits: Limits,
        rollout: DeploymentHandle | None = None,
        threads: int = 1,
        drift: DriftSettings | None = None,
    ) -> None:
        """Keep the ways to the Segmenters.

        Args:
            segmenters: Handle of the Segmenter deployment of each model, the default first.
            limits: What a photo may cost.
            rollout: Handle of the RolloutController; None where there are no roll-outs.
            threads: Threads of OpenCV in this replica.
            drift: What is noted of photos; nothing by default.
        """
        lower_priority()
        keep_freed_memory()
        cv2.setNumThreads(threads)
        self._tracer = open_tracer("Cutter")
        self._networks = {name: RemoteNetwork(handle, self._tracer) for name, handle in segmenters.items()}
        self._default = next(iter(segmenters))
        self._most_pictures = limits.max_images
        self._limits = {"max_bytes": limits.max_image_bytes, "max_megapixels": limits.max_megapixels}
        self._drift = DriftMonitor(drift or DriftSettings(watch=False), segmenters)
        replica = serve.get_replica_context().replica_id.unique_id
        self._lane = ChallengerLane(self._connect_challenger, rollout.report.remote) if rollout is not None else None
        self._desk = EditDesk(replica, limits, self._predict_for_edit)

    async def cut(self, request: CutRequest) -> CutReply | ErrorReply:
        """Cut the subject out of one photo.

        Args:
            request: The photo and what is wanted.

        Returns:
            The result, or why there is none.
        """
        with self._tracer.span("cut", request.trace):
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
            with self._tracer.span(f"edit {action}", request.trace):
                reply = await self._answer(request, partial(self._desk.handle, action))
            return cast("CutReply | EditReply | ErrorReply", reply)
        except EditGoneError:
            return ErrorReply("edit_gone", "")
        except EditRoomError:
            return ErrorReply("overloaded", "Others are editing so many photos that there is no room for another one.")

    async def infer(self, request: InferRequest) -> InferReply | ErrorReply:
        """Run the network alone, on tensors that a client prepared.

        Args:
            request: The tensors.

        Returns:
            The network's map for each picture, or why there is none.
        """
        try:
            with self._tracer.span("infer", request.trace):
                async with asyncio.timeout(request.seconds_left):
                    read = partial(read_request, request.data, request.header_length, most=self._most_pictures)
                    answer, wanted = await self._network(request.model).infer(lambda spec: read(spec=spec))
                    return InferReply(*await asyncio.to_thread(write_response, answer.maps, wanted, request.name))
        except TimeoutError:
            return ErrorReply("deadline_exceeded", "The tensors were not done in time.")
        except ApiError as error:
            return ErrorReply(error.code, error.message)

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
        with timer.stage("decode"), self._tracer.span("decode"):
            drawn = request.strokes
            strokes = None if drawn is None else await asyncio.to_thread(decode_image, drawn, settings)
            photo = await asyncio.to_thread(decode_source, request.data, settings, strokes)
        started = time.perf_counter()
        prediction, answers, by_challenger = await self._predict(request, photo.view, settings.of_views)
        forward_ms = sum(answer.forward_ms for answer in answers)
        timer.add("segment", forward_ms)
        timer.add("queue", max(0.0, (time.perf_counter() - started) * 1000 - forward_ms))
        with self._tracer.span("postprocess"):
            removal = await asyncio.to_thread(
                postprocess, photo, prediction, settings, format_name, answers[0].network, timer, backdrop=backdrop
            )
        if not by_challenger:  # what is noted of a model's photos is not to be mixed with another one's
            seen = SeenPhoto(photo.view, prediction, removal.report, settings.edge_cases, answers[0].identity)
            self._drift.look(seen, request.model or self._default)
        height_px, width_px = removal.mask.shape
        return CutReply(removal.data, format_name, removal.report, width_px, height_px, by_challenger)

    async def _predict(
        self, request: CutRequest, view: np.ndarray, settings: RemoverSettings
    ) -> tuple[Prediction, list[Probs], bool]:
        """Have all views predicted by the model that is to answer; says whether that was a challenger."""
        network = self._network(request.model)
        if self._lane is None:
            return *(await network.predict(view, settings)), False
        return await self._lane.predict(request.ticket, network, view, settings, request.seconds_left)

    def _connect_challenger(self, rollout_id: str) -> RemoteNetwork:
        """Return the way to the challenger of a roll-out; an error of it is not tried again, but counts."""
        handle = serve.get_deployment_handle(DEFAULT_DEPLOYMENT, name_of(rollout_id), _check_exists=False)
        return RemoteNetwork(handle, self._tracer, tries=1)

    async def _predict_for_edit(
        self, image: np.ndarray, settings: RemoverSettings, model: str
    ) -> tuple[Prediction, NetworkInfo]:
        """Have all views predicted, and name the network."""
        prediction, answers = await self._network(model).predict(image, settings)
        return prediction, answers[0].network

    def _network(self, model: str) -> RemoteNetwork:
        """Return the way to a model; an empty name means the default one."""
        return self._networks[model or self._default]


def _decode_backdrop(data: bytes | None, limits: InputLimits) -> DecodedImage | None:
    """Decode the picture that the subject is laid on."""
    return None if data is None else decode_image(data, limits, keep_profile=True)
