"""What every engine promises, and the checks they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cutray.errors import EngineError
from cutray.imaging.subject_box import Box

# Rounding in bfloat16 may leave [0, 1] by this much; more means that the output is something else.
_TOLERANCE = 0.01


class Engine(Protocol):
    """A network ready to run. Safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Engine, as in the settings."""

    @property
    def device(self) -> str:
        """Where it runs: cpu or cuda."""

    @property
    def precision(self) -> str:
        """Number format that is in effect, which need not be the one asked for."""

    @property
    def threads(self) -> int:
        """Processor threads of one forward pass."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        A picture's result never depends on the others in the batch on a CPU: they are run one by one there,
        which costs no time.

        Args:
            batch: (N, 3, S, S) float32, RGB, scaled and normalised as the weights demand, N at least 1.

        Returns:
            Probabilities of the subject, (N, S, S) float32 in [0, 1].

        Raises:
            EngineError: The batch has another shape or kind, or the network's output is not probabilities.
        """


@dataclass(frozen=True, slots=True)
class ViewRecipe:
    """How a network's input is prepared.

    Attributes:
        side_px: Side of the input.
        scale: What values are divided by: max for the view's own maximum, 255 for 255.
        mean: Taken away from each channel after that.
        std: What each channel is divided by then.
    """

    side_px: int
    scale: Literal["max", "255"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ResidentPhoto(Protocol):
    """A photo that an engine keeps on its device: its views, and its full size as ``cutray.matting`` needs it."""

    def views(self, wanted: Sequence[tuple[Box | None, bool]], recipe: ViewRecipe) -> Any:
        """Prepare views; each is a box of pixels (None: all of the photo), mirrored or not.

        Returns:
            What the engine's ``infer_resident`` takes, of N views.
        """

    def shrink(self, rows: int, columns: int) -> np.ndarray:
        """See ``cutray.matting.full_size``, as for the others."""

    def upsample(self, levelled: np.ndarray) -> np.ndarray:
        """Bring a map to full size."""

    def guide(
        self, levelled: np.ndarray, fitted: np.ndarray, tiles: np.ndarray, tile_px: int, rounding: float
    ) -> np.ndarray:
        """Bring a map to full size along the photo's colours."""


@runtime_checkable
class ResidentEngine(Engine, Protocol):
    """An engine that may keep photos on its device, so that their pixels go there once."""

    def upload(self, image: np.ndarray) -> ResidentPhoto | None:
        """Bring a photo, (H, W, 3) uint8 sRGB, to the device; None where that gains nothing."""

    def infer_resident(self, batches: Sequence[Any], most: int) -> NDArray[np.float32]:
        """Run the network on views of photos that it keeps.

        Args:
            batches: From ``ResidentPhoto.views``.
            most: Most views in one forward pass.

        Returns:
            Probabilities of the subject, (N, S, S) float32 in [0, 1], of all views in order.
        """


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Which engine runs a network; as text, in reports and manifests, the three words with spaces in between.

    Attributes:
        name: Engine, as in the settings.
        device: Where it runs: cpu or cuda.
        precision: Number format that is in effect.
    """

    name: str
    device: str
    precision: str

    def __str__(self) -> str:
        """Join the three words."""
        return f"{self.name} {self.device} {self.precision}"

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Describe an engine."""
        return cls(engine.name, engine.device, engine.precision)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` made.

        Raises:
            EngineError: It is something else.
        """
        words = text.split(" ")
        if len(words) != 3:
            raise EngineError(got=f"the engine {text!r}", allowed="name, device and precision, as openvino cpu bf16")
        return cls(*words)


def check_batch(batch: NDArray[np.float32], input_size_px: int) -> None:
    """Refuse what the network cannot take.

    Raises:
        EngineError: Wrong shape or number format.
    """
    right = batch.ndim == 4 and batch.shape[0] > 0 and batch.shape[1:] == (3, input_size_px, input_size_px)
    if not right or batch.dtype != np.float32:
        raise EngineError(
            got=f"the input is {batch.dtype} {batch.shape}",
            allowed=f"float32 (N, 3, {input_size_px}, {input_size_px}) with N at least 1",
        )


def as_probs(output: NDArray[np.float32], count: int, input_size_px: int) -> NDArray[np.float32]:
    """Bring a network's first output into the form that ``Engine.infer`` returns, as a copy.

    Raises:
        EngineError: Wrong shape, not finite, or outside [0, 1].
    """
    shape = (count, input_size_px, input_size_px)
    if output.shape not in (shape, (count, 1, *shape[1:])):
        raise EngineError(
            got=f"the network's first output has shape {output.shape}",
            allowed=f"one map of probabilities per picture, {shape}",
            fix="use a model with a single class",
        )
    low, high = float(output.min()), float(output.max())
    # Written so that NaN, which compares false with everything, is refused too.
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise EngineError(
            got=f"the network's output goes from {low:.3g} to {high:.3g}",
            allowed="probabilities in [0, 1]",
            fix="export the model with its sigmoid; if it worked in fp32, use that precision",
        )
    return np.clip(output.reshape(shape), 0.0, 1.0).astype(np.float32, copy=False)


def draw_check_picture(input_size_px: int) -> NDArray[np.float32]:
    """Draw (1, 3, S, S) float32 in about [-2, 2]: a bright disc on a slope, with fixed noise."""
    y, x = np.mgrid[0:input_size_px, 0:input_size_px].astype(np.float32) / input_size_px
    picture = np.stack([x - 0.8, y - 0.6, 0.4 - x]) * 2
    picture[:, (x - 0.5) ** 2 + (y - 0.45) ** 2 < 0.06] += 1.5
    noise = np.random.default_rng(0).standard_normal(picture.shape, np.float32)
    return np.asarray(np.clip(picture + 0.1 * noise, -2, 2)[None], np.float32)
