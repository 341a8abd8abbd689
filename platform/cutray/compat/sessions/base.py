"""rembg's session: a loaded model that gives masks by the classic recipe."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from cutray.errors import OptionError
from cutray.matting.alpha import classic_alpha
from cutray.remover import BackgroundRemover

_INPUT = "input"
# The engines' names, as ONNX Runtime calls what runs there.
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "openvino": "OpenVINOExecutionProvider"}


class BaseSession(BackgroundRemover):
    """A remover with the attributes of rembg's sessions; ``new_session`` makes one."""

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self.segmenter.weights.spec.name

    @property
    def inner_session(self) -> InnerSession:
        """What runs the network."""
        return InnerSession(self)

    def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
        """Return the mask of a photo, taken as it is stored: mode L, of the photo's size, alone in a list.

        Raises:
            OptionError: There are further arguments; they belong to models that are not here.
            EngineError: The network failed.
        """
        if args or kwargs:
            unknown = ", ".join([*map(repr, args), *kwargs])
            raise OptionError(f"unknown arguments {unknown}", "the photo alone", "leave them out")
        return [Image.fromarray(classic_mask(self, np.asarray(img.convert("RGB"))))]

    def normalize(
        self,
        img: Image.Image,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        size: tuple[int, int],
        *_: Any,
        **__: Any,
    ) -> dict[str, np.ndarray]:
        """Return a photo as the network's input, by name: (1, 3, H, W) float32, divided by its own maximum first."""
        pixels = np.asarray(img.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.float64)
        normal = (pixels / max(float(pixels.max()), 1e-6) - mean) / std
        return {_INPUT: normal.transpose(2, 0, 1)[None].astype(np.float32)}

    def name(self) -> str:
        """Return the name of the model."""
        return self.model_name

    def download_models(self) -> str:
        """Return where the weights lie; they were fetched when the session was made."""
        return str(self.segmenter.weights.path)

    def is_local(self) -> bool:
        """Return True: photos never leave this machine."""
        return True

    def requires_credentials(self) -> bool:
        """Return False: no model asks for a key."""
        return False

    def has_usage_cost(self) -> bool:
        """Return False: no model is billed."""
        return False


class InnerSession:
    """The part of ONNX Runtime's session that programs for rembg use, on whatever engine runs the network."""

    def __init__(self, session: BaseSession) -> None:
        """Look into a session."""
        self._segmenter = session.segmenter

    def get_providers(self) -> list[str]:
        """Name what runs the network, in ONNX Runtime's words."""
        engine = self._segmenter.engine
        found = _PROVIDERS.get(engine.device) or _PROVIDERS.get(engine.name)
        return [found, "CPUExecutionProvider"] if found else ["CPUExecutionProvider"]

    def get_inputs(self) -> list[SimpleNamespace]:
        """Describe the input: its name, shape and type."""
        side = self._segmenter.weights.spec.input_size_px
        return [SimpleNamespace(name=_INPUT, shape=["batch", 3, side, side], type="tensor(float)")]

    def get_outputs(self) -> list[SimpleNamespace]:
        """Describe the output: its name, shape and type."""
        side = self._segmenter.weights.spec.input_size_px
        return [SimpleNamespace(name="output", shape=["batch", 1, side, side], type="tensor(float)")]

    def run(self, output_names: Sequence[str] | None, input_feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the network; its one output is the fused map.

        Args:
            output_names: Has no effect, there is one.
            input_feed: The normalised photos (N, 3, S, S), under any name.

        Returns:
            Probabilities (N, 1, S, S) float32, alone in a list.

        Raises:
            EngineError: The input has another shape or kind, or the network failed.
        """
        del output_names
        (batch,) = input_feed.values()
        return [self._segmenter.engine.infer(np.asarray(batch))[:, None]]


def classic_mask(session: BackgroundRemover, pixels: np.ndarray) -> np.ndarray:
    """Return the mask of a photo by the classic recipe.

    Args:
        session: Any remover.
        pixels: (H, W, 3) uint8 sRGB.

    Returns:
        (H, W) uint8.

    Raises:
        EngineError: The network failed.
    """
    (probs,) = session.segmenter.segment([pixels], compat=True)
    return np.rint(classic_alpha(probs, *pixels.shape[:2]) * 255.0).astype(np.uint8)
