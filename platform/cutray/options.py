"""The options of the Python functions, with their types, so that editors list them and type checkers check them.

They are the fields of the settings classes, which check the values; a test compares names and types.
"""

from __future__ import annotations

from typing import Literal, TypedDict

Quality = Literal["fast", "balanced", "best"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
FormatName = Literal["auto", "png", "webp", "avif", "jpeg", "tiff"]


class PictureOptions(TypedDict, total=False):
    """Options of output and canvas but the background; docs/settings.md says what each does."""

    only_mask: bool
    inverse: bool
    threshold: float | None
    crop: bool
    crop_margin: str
    format: FormatName
    encode_quality: int
    bit_depth: Literal[8, 16]
    color_profile: Literal["srgb", "keep"]
    metadata: Literal["none", "keep"]
    template: str | None
    size: str | None
    fit: Literal["contain", "cover", "none"]
    position: str | None
    scale: str | None
    margin: str
    dpi: float | None
    shadow: Literal["none", "drop", "contact"]
    shadow_strength: float
    shadow_angle: float
    shadow_blur: float
    outline: str | None
    outline_width: float


class PhotoOptions(PictureOptions, total=False):
    """Options of one call; docs/settings.md says what each does."""

    max_bytes: int
    max_side_px: int
    max_megapixels: float
    max_jpeg_scans: int
    max_metadata_bytes: int
    allow_damaged: bool
    box: str | None
    keep: str | None
    drop: str | None
    strokes: str | None
    quality: Quality
    looks: Literal[0, 1, 2, 4]
    edges: Literal["auto", "soft", "matted", "fine"]
    refine: Literal["auto", "never", "detected", "edges", "everywhere"]
    compat: bool
    sure_background: float
    sure_foreground: float
    solid_interior: bool
    see_through: bool
    edge_cases: bool
    min_confidence: float
    subjects: str
    min_area: float
    min_area_fraction: float
    clean_edges: bool
    background: str | None


class RemoverOptions(PhotoOptions, total=False):
    """Options of a remover: those of one call, which become its defaults, and those of the engine."""

    engine: Literal["auto", "openvino", "onnxruntime", "mnn", "pytorch"]
    device: Literal["auto", "cpu", "cuda"]
    precision: Precision
    threads: int
    streams: int
    cuda_graph: bool
    torch_compile: bool
    batch_size: int
    offline: bool
