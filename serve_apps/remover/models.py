"""The models of an endpoint as the Ingress sees them: which one a client may have, and how each of them is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from ray.serve.handle import DeploymentHandle

from serve_apps.remover.errors import ApiError
from serve_apps.remover.model_names import match_name, names_of
from serve_apps.remover.schemas import AppArgs, ModelInfo

_TIMEOUT_S = 2.0
_FRESH_S = 1.0


class Models:
    """Chooses models by name, and asks their Segmenters what they run."""

    def __init__(self, segmenters: Mapping[str, DeploymentHandle], args: AppArgs) -> None:
        """Keep the ways to the Segmenters.

        Args:
            segmenters: Handle of the Segmenter deployment of each model, the default first.
            args: Names of the models that clients may choose.
        """
        self._segmenters = segmenters
        self._listed = args.models
        self._retry_after_s = args.limits.retry_after_s
        self._known: dict[str, tuple[float, ModelInfo]] = {}

    @property
    def several(self) -> bool:
        """Whether there is a choice."""
        return len(self._listed) > 1

    async def choose(self, wanted: str) -> str:
        """Find the model that a request names.

        Args:
            wanted: What the client wrote; empty for the default model.

        Returns:
            A name for ``CutRequest``.

        Raises:
            ApiError: It is not served; the message lists what is.
        """
        if not wanted:
            return ""
        allowed = self._listed or names_of((await self.info()).name)
        name = match_name(wanted, allowed)
        if name is None:
            raise ApiError("unknown_model", f"model = {wanted[:60]!r}: allowed is {', '.join(allowed)}.")
        return name if self._listed else ""

    async def info(self, name: str = "") -> ModelInfo:
        """Ask a Segmenter what it runs; the answer is kept for a second.

        Args:
            name: From ``choose``; empty for the default model.

        Raises:
            ApiError: None answers in time.
        """
        now = time.monotonic()
        name = name or next(iter(self._segmenters), "")
        if name in self._known and now - self._known[name][0] < _FRESH_S:
            return self._known[name][1]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                info: ModelInfo = await self._segmenters[name].describe.remote()
        except Exception as error:
            raise ApiError("not_ready", retry_after_s=self._retry_after_s) from error
        self._known[name] = (now, info)
        return info

    async def infos(self) -> dict[str, ModelInfo]:
        """Ask for all models; one that does not answer is loading.

        Returns:
            By the names that clients use, the default first.

        Raises:
            ApiError: The default model does not answer.
        """

        async def ask(name: str) -> ModelInfo:
            try:
                return await self.info(name)
            except ApiError:
                return ModelInfo("loading", name)

        default, *others = self._segmenters or [""]
        first, *rest = await asyncio.gather(self.info(default), *map(ask, others))
        return {default or first.name: first} | dict(zip(others, rest, strict=True))
