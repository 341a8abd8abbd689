"""Settings of a training run: data, augmentation, optimiser and loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cutray.config.base import Settings


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
