"""The Segmenter replica: one network, several photos per forward pass, swapped in place."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import serve

from cutray.config import EngineSettings, parse_settings
from cutray.errors import EngineError
from cutray.evaluation.drift import fingerprint_path
from cutray.models.catalog import ModelSpec, PreprocessSpec
from cutray.segmenter import Segmenter as Network
from serve_apps.remover.metrics import SegmenterMetrics
from serve_apps.remover.replicas import lower_priority
from serve_apps.remover.schemas import ModelConfig, ModelInfo, Probs
from serve_apps.remover.tracing import open_tracer

# Size and wait come from the YAML, see ``reconfigure``. Ray's types know only methods with a single argument.
_batched: Any = serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0, max_concurrent_batches=1)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A network that has proven that it runs."""

    network: Network
    preprocess: PreprocessSpec
    warm_up_ms: float
    model: str

    @classmethod
    def load(cls, engine: EngineSettings, wanted: ModelConfig) -> _Loaded:
        """Load a network and run it once."""
        network = Network.load(parse_settings(EngineSettings, {**engine.model_dump(), "model": wanted.model}))
        wanted.check(network.weights)
        side = network.weights.spec.input_size_px
        started = time.perf_counter()
        network.engine.infer(np.zeros((1, 3, side, side), np.float32))
        return cls(network, network.weights.spec.preprocess, (time.perf_counter() - started) * 1000, wanted.model)


class Segmenter:
    """Runs the network on prepared photos. Full-size pixels never come here."""

    def __init__(self, engine: EngineSettings, model: str = "") -> None:
        """Remember how to run networks; ``reconfigure`` loads one before the replica counts as running.

        Args:
            engine: Engine, device and precision.
            model: What runs where the YAML names no model; empty takes the default of ``ModelConfig``.
        """
        lower_priority()
        self._engine, self._own = engine, {"model": model} if model else {}
        self._loaded: _Loaded | None = None
        self._swap_error: str | None = None
        self._metrics = SegmenterMetrics()
        self._tracer = open_tracer("Segmenter")

    async def reconfigure(self, config: dict[str, object]) -> None:
        """Load the model that the YAML names; a broken one leaves the old one at work.

        Serve takes the application down when this raises, so only the very first load may do so.
        """
        try:
            wanted = parse_settings(ModelConfig, {**self._own, **config})
            loaded = await asyncio.to_thread(_Loaded.load, self._engine, wanted)
        except Exception as error:
            if self._loaded is None:
                raise
            self._swap_error = getattr(error, "code", type(error).__name__)
            self._metrics.swap_failed()
            return
        self._loaded, self._swap_error = loaded, None
        self._batch.set_max_batch_size(wanted.max_batch_size)
        self._batch.set_batch_wait_timeout_s(wanted.batch_wait_s)
        self._metrics.model(loaded.network.weights.spec.name, loaded.network.weights.sha256)

    def check_health(self) -> None:
        """Raise while there is no model; Serve then replaces the replica."""
        if self._loaded is None:
            raise EngineError(got="no model is loaded", fix="try again when it is")
        self._metrics.repeat()

    async def describe(self) -> ModelInfo:
        """Say which model runs, on what and why."""
        if self._loaded is None:
            return ModelInfo("loading", swap_error=self._swap_error)
        network = self._loaded.network
        spec, engine = network.weights.spec, network.engine
        return ModelInfo(
            state="ready",
            name=spec.name,
            sha256=network.weights.sha256,
            identity=network.weights.identity,
            license=spec.license,
            architecture=spec.architecture,
            origin=spec.origin if spec.sha256 or spec.architecture == "ensemble" else "own file",
            input_size_px=spec.input_size_px,
            scale=spec.scale,
            mean=spec.mean,
            std=spec.std,
            size_bytes=network.weights.size_bytes,
            engine=engine.name,
            device=engine.device,
            precision=engine.precision,
            threads=engine.threads,
            engine_reason=network.choice.reason,
            warm_up_ms=round(self._loaded.warm_up_ms, 1),
            swap_error=self._swap_error,
        )

    async def configured_model(self) -> tuple[str, str]:
        """Return the model in use as the YAML names it, and its identity, so that a job can load the same one."""
        if self._loaded is None:
            raise EngineError(got="no model is loaded", fix="try again when it is")
        return self._loaded.model, self._loaded.network.weights.identity

    async def fingerprint(self) -> str:
        """Return the fingerprint of the training data that lies beside the weights; empty where there is none."""
        if self._loaded is None:
            return ""
        path = fingerprint_path(self._loaded.network.weights.path)
        try:
            return await asyncio.to_thread(path.read_text, encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    async def spec(self) -> ModelSpec:
        """Return the description that photos are prepared by."""
        if self._loaded is None:
            raise EngineError(got="no model is loaded", fix="try again when it is")
        return self._loaded.network.weights.spec

    async def segment(self, tensors: np.ndarray, preprocess: PreprocessSpec, trace: str = "") -> Probs | ModelSpec:
        """Run the network on the views of one photo, together with those of others that are waiting.

        Args:
            tensors: (N, 3, S, S) float32, from ``cutray.tta.TTARunner``.
            preprocess: What they were prepared for.
            trace: ``traceparent`` of the caller's span, or empty.

        Returns:
            The maps, or, if the model was swapped for one that needs another preprocessing, its description.
        """
        with self._tracer.span("segment", trace):
            answer: Probs | ModelSpec = await self._batch(tensors, preprocess, self._tracer.current())
        return answer

    @_batched  # type: ignore[untyped-decorator]
    async def _batch(
        self, stages: list[np.ndarray], specs: list[PreprocessSpec], traces: list[str]
    ) -> list[Probs | ModelSpec]:
        """Run one forward pass for all photos that are prepared rightly."""
        loaded = self._loaded
        if loaded is None:
            raise EngineError(got="no model is loaded", fix="try again when it is")
        network = loaded.network
        right = [tensors for tensors, asked in zip(stages, specs, strict=True) if asked == loaded.preprocess]
        label = {"model": network.weights.spec.name}
        self._metrics.batch_size.observe(sum(len(tensors) for tensors in stages), label)
        if not right:
            return [network.weights.spec] * len(stages)
        started, started_ns = time.perf_counter(), time.time_ns()
        maps = await asyncio.to_thread(network.engine.infer, np.concatenate(right))
        forward_ms = (time.perf_counter() - started) * 1000
        self._metrics.forward_ms.observe(forward_ms, label)
        facts = {"cutray.model": network.weights.spec.name, "cutray.engine": str(network.info.engine)}
        for trace in traces:
            self._tracer.record("engine", trace, started_ns, time.time_ns(), {**facts, "cutray.batch": len(maps)})
        answers: list[Probs | ModelSpec] = []
        for tensors, asked in zip(stages, specs, strict=True):
            if asked != loaded.preprocess:
                answers.append(network.weights.spec)
                continue
            answers.append(Probs(maps[: len(tensors)], network.info, network.weights.identity, forward_ms))
            maps = maps[len(tensors) :]
        return answers
