"""Every setting once: its default, range, unit and meaning.

The command line, the batch job, the HTTP endpoint and the presets all read these classes; no default is
written down anywhere else. Unknown keys and values out of range are reported together, with a suggestion.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cutray.errors import ConfigError

MIB = 1 << 20


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class BatchSettings(Settings):
    """How a batch reads and writes, is spread over a machine or a Ray cluster, and when it counts as failed."""

    sink: Literal["auto", "files", "parquet", "webdataset"] = Field(
        "auto", description="One file per result, or shards of many; auto: parquet if DST ends in .parquet, else files."
    )
    photos_per_shard: int = Field(128, ge=1, le=65536, description="Most photos whose results share one shard.")
    image_column: str | None = Field(
        None, description="Column of the photos' bytes in a Parquet source, or their ending in a WebDataset."
    )
    key_column: str | None = Field(None, description="Column of the photos' names in a Parquet source.")

    address: str | None = Field(
        None, description="Ray cluster to join (auto, or HOST:PORT); without it the job runs on this machine alone."
    )
    actors: int = Field(0, ge=0, description="Processes that cut out; 0 means as many as the processors allow.")
    cpus_per_actor: float = Field(
        4.0, gt=0, description="Processors that one process takes; on a smaller machine, all that are there."
    )
    gpus_per_actor: float = Field(0.0, ge=0, description="GPUs that one process takes; 0.5 lets two share one.")
    photos_per_actor: int = Field(
        0, ge=0, le=256, description="Photos that one process has in work at a time; 0 means one more than processors."
    )
    photos_per_task: int = Field(16, ge=1, le=4096, description="Photos handed out, and reported back, at a time.")
    max_failures: str = Field(
        "0",
        pattern=r"^\d+(\.\d+)?%?$",
        description="Failed photos, as a number or percentage, up to which the job still counts as done.",
    )
    max_crashes: int = Field(3, ge=1, description="Times a photo may take its process down before it is given up.")
    no_progress_timeout_s: float = Field(
        900.0, gt=0, description="Seconds without any result after which the job stops with an error."
    )


class DataSettings(Settings):
    """What a training run learns from."""

    folders: tuple[str, ...] = Field((), description="Folders with images/ and masks/ (or another known layout).")
    image_dir: str | None = Field(None, description="Folder of photos, whose masks are in data.mask_dir.")
    mask_dir: str | None = Field(None, description="Folder of masks with the names of the photos.")
    validation: str | None = Field(None, description="Folder to validate on; else a share of the pairs is kept apart.")
    validation_share: float = Field(0.1, gt=0, lt=1, description="Share of the pairs that is kept for validation.")
    limit: int = Field(0, ge=0, description="Use that many training pairs at most; 0 means all.")
    repeat: int = Field(1, ge=1, description="Times that each pair, varied anew, counts in an epoch.")
    scenes: int = Field(0, ge=0, description="Drawn scenes with exact alpha added to each epoch.")
    validation_scenes: int = Field(0, ge=0, description="Drawn scenes added to the validation.")
    validation_family: Literal["train", "test"] = Field("test", description="Drawn as in training or as in tests.")
    cases: tuple[Literal["ordinary", "fine_detail", "transparency", "reflectivity", "texture", "empty"], ...] = Field(
        ("ordinary", "fine_detail", "transparency", "reflectivity", "texture", "empty"),
        min_length=1,
        description="What is drawn, in turns.",
    )
    side_px: int = Field(320, ge=32, le=2048, description="Side of the network's input, in pixels.")
    loaders: int = Field(1, ge=1, description="Tasks that load samples for each worker at a time.")


class AugmentSettings(Settings):
    """How samples are varied. Probabilities are per sample; every draw follows from seed, epoch and sample."""

    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    crop: float = Field(0.2, ge=0, lt=1, description="Largest share of each side that a random crop takes away.")
    rotate_deg: float = Field(10.0, ge=0, le=180, description="Largest rotation to either side, in degrees.")
    perspective: float = Field(0.05, ge=0, le=0.4, description="Largest shift of a corner, as a share of the side.")
    warp: float = Field(0.5, ge=0, le=1, description="Probability of rotation and perspective.")
    color: float = Field(0.4, ge=0, le=1, description="Strength of changes of brightness, contrast, hue and warmth.")
    low_light: float = Field(0.05, ge=0, le=1, description="Probability of a dark, noisy exposure.")
    grey: float = Field(0.05, ge=0, le=1, description="Probability of a black-and-white photo.")
    blur: float = Field(0.15, ge=0, le=1, description="Probability of soft focus or a coarser resolution.")
    noise: float = Field(0.15, ge=0, le=1, description="Probability of sensor noise.")
    jpeg: float = Field(0.2, ge=0, le=1, description="Probability of JPEG artefacts.")
    new_background: float = Field(
        0.1, ge=0, le=1, description="Probability that the subject is laid on a part of another photo without one."
    )


class OptimSettings(Settings):
    """How the weights are moved."""

    epochs: int = Field(20, ge=1, description="Passes over the training samples.")
    batch_size: int = Field(12, ge=1, description="Samples per step over all workers together.")
    accumulate: int = Field(1, ge=1, description="Parts that each worker's share of a step is computed in.")
    lr: float = Field(1e-3, gt=0, le=1, description="Highest learning rate, of AdamW.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay, of AdamW.")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="Share of all steps in which the rate rises.")
    clip_norm: float = Field(1.0, gt=0, description="Longest gradient; longer ones are scaled down.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the averaged weights, which are what is kept.")
    keep_start: float = Field(0.0, ge=0, lt=1, description="Share of the weights of `init` in those that are kept.")


class LossSettings(Settings):
    """What is minimised, summed over the fused map and the six side maps."""

    bce: float = Field(1.0, ge=0, description="Weight of the binary cross-entropy.")
    iou: float = Field(1.0, ge=0, description="Weight of the soft intersection over union.")
    ssim: float = Field(0.5, ge=0, description="Weight of the structural similarity, on the two finest maps.")
    edge: float = Field(4.0, ge=0, description="Extra weight of pixels near an edge of the truth.")
    sides: tuple[float, float, float, float, float, float] = Field(
        (1.0, 0.5, 0.25, 0.25, 0.25, 0.25), description="Weights of the side maps against the fused one."
    )


class TrainSettings(Settings):
    """One training run."""

    name: str = Field("", pattern=r"^[\w.-]*$", description="Name of the run; empty makes one from preset and time.")
    save_dir: str = Field("runs", description="Folder, on a cluster a shared one, in which each run has its own.")
    architecture: Literal["u2net", "u2netp"] = Field("u2netp", description="Network to train.")
    init: str = Field("", description="Weights to start from: a model's name or a file; empty starts from random ones.")
    teacher: str = Field("", description="Model whose maps are learned too: a name or a file; empty for none.")
    teacher_share: float = Field(0.5, ge=0, le=1, description="Weight of the teacher's maps against the masks.")
    seed: int = Field(0, ge=0, description="Number that every random choice follows from.")
    workers: int = Field(1, ge=1, description="Processes that train together.")
    min_workers: int = Field(0, ge=0, description="Go on with as few as this when nodes are lost; 0 means all.")
    cpus_per_worker: float = Field(1.0, gt=0, description="Processors Ray sets aside for each worker.")
    threads_per_worker: int = Field(0, ge=0, description="Threads of each; 0 shares this machine's among them.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs of each worker.")
    address: str | None = Field(None, description="Ray cluster to join (auto, or HOST:PORT); without it, this machine.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Format of the forward pass.")
    compile: bool = Field(False, description="Compile network and loss first; pays off in long runs on GPUs.")
    checkpoint_every_steps: int = Field(500, ge=1, description="Steps between checkpoints within an epoch.")
    keep_checkpoints: int = Field(3, ge=2, description="Newest checkpoints that are kept.")
    patience_epochs: int = Field(0, ge=0, description="Stop after so many epochs without a better score; 0 never.")
    max_minutes: float = Field(0.0, ge=0, description="Stop, with a proper end, after that many minutes; 0 never.")
    max_failures: int = Field(3, ge=0, description="Times that workers may die before the run is given up.")
    tracking_uri: str = Field("", description="MLflow server or store; empty: MLFLOW_TRACKING_URI; 'none': none.")
    experiment: str = Field("cutray", description="MLflow experiment.")
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    loss: LossSettings = LossSettings()


class RefinerSettings(Settings):
    """One training of the edge refiner."""

    steps: int = Field(4000, ge=1, description="Steps, over which the rate rises and falls to zero.")
    batch_size: int = Field(8, ge=1, description="Crops per step.")
    crop_px: int = Field(192, ge=64, multiple_of=16, description="Side of a crop, in pixels.")
    lr: float = Field(2e-3, gt=0, le=1, description="Highest learning rate, of AdamW.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay, of AdamW.")
    warmup_share: float = Field(0.03, ge=0, lt=1, description="Share of all steps in which the rate rises.")
    clip_norm: float = Field(1.0, gt=0, description="Longest gradient; longer ones are scaled down.")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="Decay of the averaged weights, which are what is kept.")
    seed: int = Field(0, ge=0, description="Number that every random choice follows from.")
    threads: int = Field(0, ge=0, description="Threads of the network; 0 means all processors.")
    loaders: int = Field(1, ge=1, description="Threads that make crops ahead.")
    report_every_steps: int = Field(200, ge=1, description="Steps between reports.")


class SchedulerSettings(Settings):
    """When a training that does badly is ended before its time; without training every trial sees all photos."""

    kind: Literal["asha", "median", "none"] = Field(
        "asha", description="Keep the best at each halving (asha), those above the median of the others, or all."
    )
    grace_epochs: int = Field(1, ge=1, description="Epochs that every trial is given.")
    reduction: float = Field(2.0, gt=1, description="One in so many goes on, for asha.")


class SweepSettings(Settings):
    """A search for good settings: which may vary, within what, judged by what, at what cost."""

    job: Literal["train", "remove"] = Field(
        "train", description="Train a network in each trial, or cut out photos with known masks without any training."
    )
    preset: str | None = Field(None, description="Preset of `cutray train` that every trial begins with.")
    settings: dict[str, Any] = Field({}, description="Settings of every trial that differ from preset and defaults.")
    search: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="What varies: path of a setting and its choice, uniform, loguniform or int, with `when` if needed.",
    )
    data: tuple[str, ...] = Field(
        (), description="Folders of photos and masks; the trials' `data.folders` in training."
    )
    photos: int = Field(0, ge=0, description="Most photos taken from each folder, evenly spaced, without training.")
    metric: str = Field("iou", description="Score that decides.")
    mode: Literal["max", "min"] = Field("max", description="Whether more or less of it is better.")
    searcher: Literal["optuna", "random"] = Field("optuna", description="How the next values are chosen.")
    scheduler: SchedulerSettings = SchedulerSettings()
    trials: int = Field(16, ge=1, le=10_000, description="Trials, that with the settings left as they are included.")
    concurrent: int = Field(0, ge=0, description="Trials at a time; 0 means as many as fit.")
    cpus_per_trial: float = Field(1.0, gt=0, description="Processors of a trial that does not train.")
    max_minutes: float = Field(0.0, ge=0, description="End the search after that many minutes; 0 never.")
    seed: int = Field(0, ge=0, description="Number that the choice of values follows from.")
    name: str = Field("", pattern=r"^[\w.-]*$", description="Name of the sweep; empty makes one from file and time.")
    save_dir: str = Field("runs", description="Folder, on a cluster a shared one, in which each sweep has its own.")
    address: str | None = Field(None, description="Ray cluster to join (auto, or HOST:PORT); without it, this machine.")
    tracking_uri: str = Field("", description="MLflow server or store; empty: MLFLOW_TRACKING_URI; 'none': none.")
    experiment: str = Field("cutray", description="MLflow experiment.")


SettingsT = TypeVar("SettingsT", bound=Settings)


def parse_settings(cls: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Build settings from plain values and report every problem at once.

    Args:
        cls: The settings class to build.
        values: Field names and values, nested mappings allowed.

    Returns:
        A validated, immutable instance of ``cls``.

    Raises:
        ConfigError: A key is unknown or a value is not allowed; unknown keys come with a suggestion.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        problems = [_describe(cls, problem) for problem in error.errors()]
        raise ConfigError(
            got="; ".join(problems),
            allowed=f"see the fields of {cls.__name__}",
            fix="correct the values named above",
        ) from error


def _describe(cls: type[Settings], problem: Any) -> str:
    """Say in one clause what is wrong with one value."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{path} = {problem['input']!r}: {problem['msg']}"
    known = list(_level_of(cls, problem["loc"][:-1]).model_fields)
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else f", known are {', '.join(known)}"
    return f"unknown setting {path!r}{hint}"


def _level_of(cls: type[Settings], way: tuple[Any, ...]) -> type[Settings]:
    """Return the class of the settings below a path."""
    for name in way:
        below = cls.model_fields[name].annotation if name in cls.model_fields else None
        if isinstance(below, type) and issubclass(below, Settings):
            cls = below
    return cls
