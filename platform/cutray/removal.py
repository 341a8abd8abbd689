"""The result of one removal: the pictures, the encoded file, and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image


@dataclass(slots=True)
class RemovalReport:
    """What is known about one removal.

    Attributes:
        subject_found: False when the scene is empty; the cutout is then fully transparent.
        confidence: How sure the network is of what it noticed, in [0, 1]; 0 if it did not notice it again from nearby.
        area_fraction: Share of the photo that the subject covers, in [0, 1].
        width_px: Width of the photo.
        height_px: Height of the photo.
        box: Left, top, right, bottom of the result within the photo, in pixels.
        model: Name of the model.
        engine: Engine, device and precision.
        notes: What was left out or changed on the way in.
        edge_cases: What makes the edges hard, if it was asked for: fine_detail, transparency, reflectivity, texture.
        timings_ms: Milliseconds of each stage.
    """

    subject_found: bool
    confidence: float
    area_fraction: float
    width_px: int
    height_px: int
    box: tuple[int, int, int, int]
    model: str
    engine: str
    notes: tuple[str, ...] = ()
    edge_cases: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


class Removal(tuple[Any, Any]):
    """The pair ``(cutout, mask)``, with more about it in attributes.

    Attributes:
        cutout: (h, w, 4) uint8 straight RGBA, or what the options asked for instead; a Pillow image if a Pillow
            image was given, else an array.
        mask: (h, w) uint8, the alpha channel as a grey picture; a Pillow image or an array likewise.
        report: Confidence, sizes, notes and timings.
        data: The encoded file.
    """

    report: RemovalReport
    data: bytes

    def __new__(cls, cutout: Any, mask: Any, report: RemovalReport, data: bytes) -> Removal:
        """Build the pair."""
        pair = super().__new__(cls, (cutout, mask))
        pair.report, pair.data = report, data
        return pair

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling with all attributes."""
        return type(self), (self[0], self[1], self.report, self.data)

    @property
    def cutout(self) -> Any:
        """The first of the pair."""
        return self[0]

    @property
    def mask(self) -> Any:
        """The second of the pair."""
        return self[1]

    def as_pillow(self) -> Removal:
        """Return the same with Pillow images in place of arrays; 16-bit ones stay, Pillow has no such RGB."""
        if self.cutout.dtype != np.uint8:
            return self
        return Removal(Image.fromarray(self.cutout), Image.fromarray(self.mask), self.report, self.data)
