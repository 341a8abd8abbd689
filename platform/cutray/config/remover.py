"""Settings of the background remover: limits of a photo, engine, mask and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from cutray.config.base import Settings
from cutray.config.canvas import SIDES, CanvasSettings, checked
from cutray.config.hints import HintSettings
from cutray.config.lengths import parse_sides, parse_size, room_px
from cutray.config.metadata import Setting
from cutray.config.templates import template_values

MIB = 1 << 20

# Settings that have details, and the value with which these mean nothing.
_SWITCHES = {"shadow": "none", "outline": None}

# Engine settings that change only how soon a result is there, or from where its parts come.
_SPEED = Setting(affects_result=False)
_REPORT = Setting(affects_result=False)
# A photo is accepted or refused; the result of an accepted one is the same.
_LIMIT = Setting(affects_result=False)


class InputLimits(Settings):
    """The largest photos that are accepted. Checked on the file's header, before its pixels are decoded."""

    title: ClassVar[str] = "Limits"
    every_field_is_option: ClassVar[bool] = True

    max_bytes: Annotated[int, _LIMIT] = Field(128 * MIB, ge=1, description="Largest accepted file, in bytes.")
    max_side_px: Annotated[int, _LIMIT] = Field(30_000, ge=1, description="Longest accepted side, in pixels.")
    max_megapixels: Annotated[float, _LIMIT] = Field(
        100.0, gt=0, description="Largest accepted photo, in millions of pixels."
    )
    max_jpeg_scans: Annotated[int, _LIMIT] = Field(
        100, ge=1, description="Most scans of a progressive JPEG; decoding reads all pixels once for each scan."
    )
    max_metadata_bytes: Annotated[int, _LIMIT] = Field(
        16 * MIB, ge=0, description="Most bytes of metadata in a PNG, or in front of the pixels of a JPEG."
    )


class ReadingSettings(Settings):
    """How tolerantly photos are read."""

    title: ClassVar[str] = "Reading"
    every_field_is_option: ClassVar[bool] = True

    allow_damaged: Annotated[bool, _LIMIT] = Field(
        False,
        description="Accept damaged photos of which much is missing; the missing rows become transparent. Without it "
        "only photos that lack a few rows are accepted.",
    )


class EngineSettings(Settings):
    """Which network runs, and on what."""

    title: ClassVar[str] = "Engine"
    every_field_is_option: ClassVar[bool] = True

    model: Annotated[str, Setting(short="-m")] = Field(
        "u2net-lean",
        description="Name (see `cutray models list`), .onnx, .pth or .safetensors file, or models:/NAME@ALIAS. Where "
        "none is named, quality fast runs u2net-lean-288, best u2net+isnet if isnet is on this machine, else u2net, "
        "and rembg's recipe u2net.",
    )
    engine: Literal["auto", "openvino", "onnxruntime", "mnn", "pytorch"] = Field(
        "auto", description="Inference engine; auto picks the fastest one on this machine (see `cutray doctor`)."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], _SPEED] = Field(
        "auto", description="Where the network runs; cuda without a usable GPU is an error."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="Number format of the network; auto takes the fastest that keeps the quality."
    )
    threads: Annotated[int, _SPEED] = Field(
        0, ge=0, le=1024, description="CPU threads of the network; 0 means all cores that this process may use."
    )
    streams: Annotated[int, _SPEED] = Field(
        1,
        ge=1,
        le=64,
        description="Inference streams of OpenVINO, which share the threads: more streams raise the throughput, "
        "one stream gives the lowest latency.",
    )
    cuda_graph: Annotated[bool, _SPEED] = Field(
        False, description="Replay the network as a captured CUDA graph for each batch size (PyTorch on a GPU)."
    )
    torch_compile: Annotated[bool, _SPEED] = Field(
        False, description="Compile the network block by block at the first picture (PyTorch); takes up to minutes."
    )
    batch_size: Annotated[int, Setting(affects_result=False, short="-n")] = Field(
        8, ge=1, le=256, description="Most photos in one forward pass when several are given."
    )
    offline: Annotated[bool, _SPEED] = Field(
        False, description="Never download weights; an error names the missing file instead."
    )


class Effort(Settings):
    """What a quality stands for."""

    looks: Literal[1, 2, 4]
    # Whether to leave out what a photo does not need: the mirror image, where the network is sure.
    adaptive: bool = False
    edges: Literal["soft", "matted", "fine"]
    refine: Literal["never", "detected", "edges", "everywhere"]


# What each costs and gains is in docs/quality.md.
EFFORTS = {
    "fast": Effort(looks=1, edges="soft", refine="never"),
    "balanced": Effort(looks=2, adaptive=True, edges="matted", refine="detected"),
    "best": Effort(looks=4, edges="fine", refine="detected"),
}


class MattingSettings(Settings):
    """How the network's probabilities become an alpha channel, and when there is no subject."""

    title: ClassVar[str] = "Mask"
    every_field_is_option: ClassVar[bool] = True

    quality: Literal["fast", "balanced", "best"] = Field(
        "balanced",
        description="How much work goes into the mask; sets `looks`, `edges` and `refine` together. Where no model is "
        "named, `best` runs u2net+isnet if the weights of isnet are on this machine, and u2net if not.",
    )
    looks: Literal[0, 1, 2, 4] = Field(
        0,
        description="Test-time augmentation: 1 runs the network once, 2 also on the mirrored photo, 4 also on a crop "
        "around the subject (2 does this too if the subject is doubtful); 0 follows `quality`, and leaves out the "
        "mirrored photo in `balanced` where the network is sure.",
    )
    edges: Literal["auto", "soft", "matted", "fine"] = Field(
        "auto",
        description="Edges from the network's probabilities alone (soft), or by alpha matting with the photo's colours "
        "(matted, and fine at a higher resolution); auto follows `quality`.",
    )
    refine: Literal["auto", "never", "detected", "edges", "everywhere"] = Field(
        "auto",
        description="Where a small network refines alpha: nowhere, along edges where hair or fur is detected, along "
        "all edges, or everywhere (lace and mesh); auto follows `quality`.",
    )
    compat: bool = Field(
        False,
        description="Post-process as rembg does (one forward pass, Lanczos, min-max stretch, 8 bits), pixel for pixel.",
    )
    sure_background: float = Field(0.04, ge=0, le=0.4, description="Probabilities up to this become fully transparent.")
    sure_foreground: float = Field(0.96, ge=0.6, le=1, description="Probabilities from this on become fully opaque.")
    solid_interior: bool = Field(
        True, description="Make the inside of the subject fully opaque where the network is only nearly sure."
    )
    see_through: bool = Field(False, description="The subject is clear glass or plastic: let what is behind it show.")
    edge_cases: Annotated[bool, _REPORT] = Field(
        False, description="Report what makes the edges hard: hair, glass, metal, lace."
    )
    min_confidence: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Lowest mean probability of the network over the subject; below it the answer is 'no subject'.",
    )
    subjects: Annotated[str, Setting(allowed="all, largest, or a number such as 2")] = Field(
        "all",
        pattern=r"^(all|largest|[1-9]\d{0,2})$",
        description="Which of several separate subjects are kept: all, the largest one, or so many of the largest.",
    )
    min_area: float = Field(
        0.0, ge=0, le=100, description="Smallest separate part that is kept, in percent of the photo's area."
    )
    min_area_fraction: float = Field(
        1e-4, ge=0, le=1, description="Smallest subject, as a share of the photo's area; a smaller one is 'no subject'."
    )
    clean_edges: bool = Field(True, description="Remove the old background's colour from soft edges.")

    @property
    def most_subjects(self) -> int | None:
        """How many separate subjects are kept; None keeps all."""
        return None if self.subjects == "all" else 1 if self.subjects == "largest" else int(self.subjects)

    @property
    def effort(self) -> Effort:
        """Looks, edges and refinement: what ``quality`` stands for, except for what was set singly."""
        if self.compat:
            return EFFORTS["fast"]
        preset = EFFORTS[self.quality]
        edges = preset.edges if self.edges == "auto" else self.edges
        refine = preset.refine if self.refine == "auto" else self.refine
        looks, adaptive = (self.looks, False) if self.looks else (preset.looks, preset.adaptive)
        return Effort(looks=looks, adaptive=adaptive, edges=edges, refine=refine)

    def effort_of(self, *, ensemble: bool) -> Effort:
        """Effort of a single network or of several ones.

        Several networks take no closer look unless it was asked for: the second network takes its place.
        """
        effort = self.effort
        if not ensemble or self.looks or effort.looks < 4:
            return effort
        return effort.model_copy(update={"looks": 2, "adaptive": True})


class OutputSettings(Settings):
    """What the result is: which channels, on which background, how cropped, in which file format."""

    title: ClassVar[str] = "Output"
    every_field_is_option: ClassVar[bool] = True

    only_mask: Annotated[bool, Setting(short="-om")] = Field(
        False, description="Write the mask (greyscale) instead of the cutout."
    )
    inverse: bool = Field(False, description="Keep the background and remove the subject.")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="Binarise the mask at this value instead of keeping soft edges."
    )
    background: Annotated[str | None, Setting(short="-b")] = Field(
        None,
        description="Put the subject on a colour (white, #ff8800, 255,136,0), a gradient (gradient:white-#ddd, with an "
        "angle gradient:white-#ddd:45, or radial:), a pattern (checker:, stripes: or dots: likewise), a picture (path) "
        "or the blurred photo (blur).",
    )
    crop: Annotated[bool, Setting(short="-c")] = Field(False, description="Crop to the subject.")
    crop_margin: Annotated[str, checked(parse_sides), Setting(allowed=SIDES)] = Field(
        "0",
        description="Margin around the cropped subject, as far as the photo reaches: pixels (20px) or percent of the "
        "subject's longer side (5%), with `crop`.",
    )
    format: Annotated[Literal["auto", "png", "webp", "avif", "jpeg", "tiff"], Setting(short="-f")] = Field(
        "auto",
        description="File format; auto follows the output's name, else PNG (JPEG is possible on a background only).",
    )
    encode_quality: int = Field(90, ge=1, le=100, description="Quality of WebP, AVIF and JPEG files.")
    bit_depth: Literal[8, 16] = Field(
        8, description="Bits per channel; 16 keeps the depth of a 16-bit input (PNG, TIFF)."
    )
    color_profile: Literal["srgb", "keep"] = Field(
        "srgb", description="Convert to sRGB, or keep the photo's own RGB profile."
    )
    metadata: Literal["none", "keep"] = Field(
        "none",
        description="Write no metadata, or keep the photo's EXIF, IPTC and XMP copyright. Position (GPS), orientation, "
        "thumbnails, maker notes and serial numbers are never written.",
    )


class PictureSettings(OutputSettings, CanvasSettings):
    """All that decides, with an alpha channel given, what picture comes out."""

    @model_validator(mode="wrap")
    @classmethod
    def _fill_in_template(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take what is not given from the template; it counts as a default, not as given."""
        name = data.get("template") if isinstance(data, dict) else None
        if not isinstance(name, str):
            return handler(data)
        values = template_values(name, PictureSettings.model_fields.keys() - {"template"})
        settings = handler({**values, **data})
        settings.model_fields_set.difference_update(values.keys() - data.keys())
        return settings

    @model_validator(mode="after")
    def _all_is_used(self) -> Self:
        """Refuse what would be ignored, and margins that leave no room."""
        crop_margin, margin = parse_sides(self.crop_margin), parse_sides(self.margin)
        if not self.crop and crop_margin.any:
            raise ValueError(f"crop_margin = {self.crop_margin!r} without crop: set crop too, or leave the margin out")
        size = None if self.size is None else parse_size(self.size, self.dpi)
        on_canvas = size is not None and not size.most_px
        if self.fit != "contain" and not on_canvas:
            raise ValueError(f"fit = {self.fit!r} without a canvas: set size too, such as 2000x2000")
        if self.fit != "contain" and self.scale is not None:
            raise ValueError(f"fit = {self.fit!r} and scale = {self.scale!r}: one of them decides, leave the other out")
        if margin.any and not (on_canvas or self.crop or self.scale):
            raise ValueError(f"margin = {self.margin!r} without a canvas: set size (2000x2000), scale or crop too")
        if margin.any and crop_margin.any:
            raise ValueError("margin and crop_margin together: margin alone says it all, leave crop_margin out")
        for kind, off in _SWITCHES.items():
            parts = [name for name in self.model_fields_set if name.startswith(f"{kind}_")]
            if getattr(self, kind) == off and any(getattr(self, name) != _default(name) for name in parts):
                raise ValueError(f"{', '.join(sorted(parts))} without {kind}: set {kind} too, or leave it out")
        if on_canvas and size is not None and min(room_px(size, margin)) < 1:
            raise ValueError(
                f"margin = {self.margin!r} leaves no room on {size.width} x {size.height} pixels: opposite margins "
                "have to be less than 100% together"
            )
        return self


def overlay(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings over others; the details of a shadow or an outline that is switched off go with it.

    Args:
        base: Settings by name.
        given: What goes before them.
    """
    off = tuple(f"{kind}_" for kind, value in _SWITCHES.items() if kind in given and given[kind] == value)
    return {**{name: value for name, value in base.items() if not (off and name.startswith(off))}, **given}


def _default(name: str) -> object:
    """Return the default of a setting of the canvas."""
    return CanvasSettings.model_fields[name].default


class PhotoSettings(ReadingSettings, HintSettings, MattingSettings, PictureSettings):
    """What may differ from photo to photo: options of one call, of one HTTP request, of one row in a list."""

    @model_validator(mode="after")
    def _compat_takes_no_hints(self) -> Self:
        """Refuse hints that would be ignored."""
        if self.compat and self.hinted:
            raise ValueError("compat together with box, keep, drop or strokes: rembg's recipe knows no hints")
        return self


class RemoverSettings(InputLimits, EngineSettings, PhotoSettings):
    """All settings of a background remover, under flat names that are the same everywhere."""

    @model_validator(mode="after")
    def _canvas_is_within_limits(self) -> Self:
        """Refuse a canvas that is larger than a photo may be."""
        size = None if self.size is None else parse_size(self.size, self.dpi)
        if size is None or size.most_px:
            return self
        if max(size.width, size.height) > self.max_side_px or size.width * size.height > self.max_megapixels * 1e6:
            raise ValueError(
                f"size = {self.size!r} is {size.width} x {size.height} pixels: allowed are sides of at most "
                f"{self.max_side_px} and {self.max_megapixels:g} million pixels; choose a smaller size, "
                "or raise the limit"
            )
        return self

    @property
    def of_views(self) -> Self:
        """These settings for what the network sees: whoever draws a box knows that there is a subject in it."""
        return self if self.box is None else self.model_copy(update={"min_confidence": 0.0})
