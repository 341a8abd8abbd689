"""Settings of the background remover: limits of a picture, engine, matting and output."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cutray.config.base import Settings

MIB = 1 << 20


class InputLimits(Settings):
    """What a picture may cost. Checked on the file's header, before its pixels are decoded."""

    max_bytes: int = Field(128 * MIB, ge=1, description="Largest accepted file, in bytes.")
    max_side_px: int = Field(30_000, ge=1, description="Longest accepted side, in pixels.")
    max_megapixels: float = Field(100.0, gt=0, description="Largest accepted picture, in millions of pixels.")
    max_jpeg_scans: int = Field(100, ge=1, description="Most scans of a progressive JPEG; each one costs a full pass.")
    max_metadata_bytes: int = Field(16 * MIB, ge=0, description="Most bytes of metadata in front of a JPEG's pixels.")


class EngineSettings(Settings):
    """Which network runs, and on what."""

    model: str = Field(
        "u2net", description="Name (see `cutray models list`), .onnx, .pth or .safetensors file, or models:/NAME@ALIAS."
    )
    engine: Literal["auto", "openvino", "onnxruntime", "pytorch"] = Field(
        "auto", description="Inference engine; auto picks the fastest one on this machine (see `cutray doctor`)."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the network runs; cuda fails loudly without a GPU."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="Number format of the network; auto takes the fastest that keeps the quality."
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Processor threads of the network; 0 means all cores this process may use."
    )
    streams: int = Field(
        1,
        ge=1,
        le=64,
        description="Pictures that OpenVINO works on at a time, sharing the threads: more do more photos in a second, "
        "one gives a single photo soonest.",
    )
    batch_size: int = Field(8, ge=1, le=256, description="Most pictures in one forward pass when several are given.")
    offline: bool = Field(False, description="Never download weights; say what is missing instead.")


class Effort(Settings):
    """What a quality stands for."""

    looks: Literal[1, 2, 4]
    edges: Literal["soft", "matted", "fine"]
    refine: Literal["never", "detected", "edges", "everywhere"]


# What each costs and gains is in docs/quality.md.
EFFORTS = {
    "fast": Effort(looks=1, edges="soft", refine="never"),
    "balanced": Effort(looks=2, edges="matted", refine="detected"),
    "best": Effort(looks=4, edges="fine", refine="detected"),
}


class MattingSettings(Settings):
    """How the network's map becomes an alpha channel, and when there is no subject."""

    quality: Literal["fast", "balanced", "best"] = Field(
        "balanced", description="How much work goes into the mask: stands for `looks`, `edges`, `refine`."
    )
    looks: Literal[0, 1, 2, 4] = Field(
        0,
        description="Passes of the network: 1, 2 with the mirrored photo, 4 with the subject's surroundings as well "
        "(with 2 too, where a subject is doubtful); 0 is as `quality` says.",
    )
    edges: Literal["auto", "soft", "matted", "fine"] = Field(
        "auto",
        description="Edges from the network's map alone (soft), or from the photo's colours too (matted, and fine "
        "with more detail); auto is as `quality` says.",
    )
    refine: Literal["auto", "never", "detected", "edges", "everywhere"] = Field(
        "auto",
        description="A small network redraws hair and fur (edges), lace too (everywhere), or detected hair alone.",
    )
    compat: bool = Field(
        False,
        description="Classic recipe (one look, Lanczos, min-max stretch, 8 bits), pixel by pixel as older tools do it.",
    )
    sure_background: float = Field(0.04, ge=0, le=0.4, description="Probabilities up to this become fully transparent.")
    sure_foreground: float = Field(0.96, ge=0.6, le=1, description="Probabilities from this on become fully opaque.")
    solid_interior: bool = Field(
        True, description="Make the inside of the subject fully opaque where the network is only nearly sure."
    )
    see_through: bool = Field(False, description="The subject is clear glass or plastic: let what is behind it show.")
    edge_cases: bool = Field(False, description="Name in the report what makes edges hard: hair, glass, metal, lace.")
    min_confidence: float = Field(0.4, ge=0, le=1, description="Below this confidence the answer is 'no subject'.")
    min_area_fraction: float = Field(
        1e-4, ge=0, le=1, description="A subject smaller than this share of the picture is none."
    )
    clean_edges: bool = Field(True, description="Take the old background's colour out of soft edges.")

    @property
    def effort(self) -> Effort:
        """What is done: what the quality stands for, but for what was set singly; the classic recipe looks once."""
        if self.compat:
            return EFFORTS["fast"]
        preset = EFFORTS[self.quality]
        edges = preset.edges if self.edges == "auto" else self.edges
        refine = preset.refine if self.refine == "auto" else self.refine
        return Effort(looks=self.looks or preset.looks, edges=edges, refine=refine)


class OutputSettings(Settings):
    """What comes out: which channels, on which background, cropped how, in which file format."""

    only_mask: bool = Field(False, description="Give the mask (grey) instead of the cutout.")
    inverse: bool = Field(False, description="Keep the background and remove the subject.")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="Harden the mask at this value instead of keeping soft edges."
    )
    background: str | None = Field(
        None,
        description="Put the subject on a colour (white, #ff8800, 255,136,0), on a picture (path) or on itself (blur).",
    )
    crop: bool = Field(False, description="Crop to the subject.")
    crop_margin: str = Field(
        "0",
        pattern=r"^\d+(\.\d+)?(px|%)?$",
        description="Room around the cropped subject: pixels (20px) or percent of its longer side (5%).",
    )
    format: Literal["auto", "png", "webp", "avif", "jpeg", "tiff"] = Field(
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


class RemoverSettings(InputLimits, EngineSettings, MattingSettings, OutputSettings):
    """All that a background remover can be told, under flat names that are the same everywhere."""
