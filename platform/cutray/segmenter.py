"""Run the network: a picture in, a small map of probabilities out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cutray.config import EngineSettings, RemoverSettings
from cutray.config.paths import absolute_model
from cutray.engines.base import Engine, EngineInfo
from cutray.engines.create import create_engine
from cutray.engines.hardware import Hardware, inspect_hardware
from cutray.engines.measured import Conditions, read_winner
from cutray.engines.select import EngineChoice, choose_engine
from cutray.ensemble import EnsembleEngine
from cutray.models.int8_stats import find_stats
from cutray.models.preset_networks import name_networks
from cutray.models.weights import Weights, cache_dir, resolve
from cutray.preprocess import prepare


def settle_settings(settings: RemoverSettings) -> RemoverSettings:
    """Settle what a network is loaded with: the models, the number format, and paths that hold in every folder."""
    settings = name_networks(settings)
    if settings.compat and settings.precision == "auto":
        # bf16 would move single pixels by more than the recipe's own rounding
        settings = settings.model_copy(update={"precision": "fp32"})
    # The remover may be used from another folder, in another process.
    paths: dict[str, str] = {"model": absolute_model(settings.model)}
    background = settings.background
    if background is not None and not os.path.isabs(background) and os.path.isfile(background):
        paths["background"] = os.path.abspath(background)
    return settings.model_copy(update=paths)


def measuring_conditions(weights: Weights, settings: EngineSettings, hardware: Hardware) -> Conditions:
    """Say under what a measurement of engines holds."""
    return Conditions(hardware, settings.threads or hardware.cores, weights.sha256)


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """What made a prediction.

    Attributes:
        model: Name of the model.
        engine: Engine, device and precision that it ran on.
    """

    model: str
    engine: EngineInfo


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A network that is loaded and ready.

    Attributes:
        weights: The file it came from, with its hash and its description.
        engine: What runs it.
        choice: Which engine was chosen, and why.
    """

    weights: Weights
    engine: Engine
    choice: EngineChoice

    @classmethod
    def load(
        cls, settings: EngineSettings, progress: Callable[[str, int, int | None], None] | None = None
    ) -> Segmenter:
        """Find the weights, choose an engine and build it.

        Args:
            settings: Model, engine, device, precision and threads.
            progress: Called with file name, bytes so far and all bytes while weights are downloaded.

        Raises:
            WeightsError: The weights are unknown, damaged or not obtainable.
            EngineError: The engine is not available or cannot use the weights.
        """
        return cls.of(resolve(settings.model, offline=settings.offline, progress=progress), settings)

    @classmethod
    def of(cls, weights: Weights, settings: EngineSettings, photos: int | None = None) -> Segmenter:
        """Choose an engine for weights that are at hand, and build it.

        Args:
            weights: From ``resolve``.
            settings: Engine, device, precision and threads.
            photos: How many there are to do, if that is known.

        Raises:
            EngineError: The engine is not available or cannot use the weights.
        """
        if weights.members:
            members = [cls.of(member, settings, photos) for member in weights.members]
            voters = EnsembleEngine([(one.engine, one.weights.spec) for one in members], weights.spec)
            return cls(weights, voters, members[0].choice)
        hardware = inspect_hardware()
        measured = read_winner(measuring_conditions(weights, settings, hardware), cache_dir())
        choice = choose_engine(settings, weights.path.suffix, hardware, weights.spec.cpu_precisions, measured, photos)
        return cls.with_choice(weights, choice)

    @classmethod
    def with_choice(cls, weights: Weights, choice: EngineChoice, *, keep: bool = True) -> Segmenter:
        """Build an engine that is chosen already.

        Args:
            weights: From ``resolve``, of a single network.
            choice: From ``choose_engine``.
            keep: Keep in the cache what the engine builds slowly, and use what is there.

        Raises:
            EngineError: The engine is not available or cannot use the weights.
        """

        def load_module() -> object:
            from cutray.models.u2net import load_u2net

            return load_u2net(weights.path)

        engine = create_engine(
            choice,
            weights.path,
            weights.spec.input_size_px,
            load_module,
            cache_dir=cache_dir() / "engines" if keep else None,
            stats=find_stats(weights) if choice.precision == "int8" else None,
            sha256=weights.sha256,
        )
        return cls(weights, engine, choice)

    @property
    def info(self) -> NetworkInfo:
        """Model and engine."""
        return NetworkInfo(self.weights.spec.name, EngineInfo.of(self.engine))

    def segment(self, images: Sequence[np.ndarray], *, compat: bool = False) -> list[np.ndarray]:
        """Find the subject in each picture.

        Args:
            images: (H, W, 3) uint8 sRGB each, sizes may differ.
            compat: Prepare them by the classic recipe.

        Returns:
            One (S, S) float32 map of probabilities in [0, 1] for each picture, not stretched.

        Raises:
            EngineError: The engine failed.
        """
        if not images:
            return []
        batch = np.stack([prepare(image, self.weights.spec, compat=compat) for image in images])
        return list(self.engine.infer(batch))
