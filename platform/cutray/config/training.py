"""Settings of a training run."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cutray.config.base import Settings
from cutray.config.metadata import Setting
from cutray.config.paths import FilePath, ModelFile
from cutray.config.shared import AdamWSettings, RunSettings
from cutray.config.training_data import AugmentSettings, DataSettings

# The networks of the family that can be built and trained.
Architecture = Literal["u2net", "u2netp", "isnet"]
# Where and how fast a run computes, and when it is interrupted, is not what it computes.
_RESOURCES = Setting(affects_result=False)
# A number that memory decides; it is settled before the run begins.
AUTO = 0
_AutoCount = Annotated[int, BeforeValidator(lambda value: AUTO if value == "auto" else value)]


class OptimSettings(AdamWSettings):
    """How the weights are optimised."""

    title: ClassVar[str] = "Optimiser"

    epochs: Annotated[int, Setting(option=True)] = Field(20, ge=1, description="Passes over the training samples.")
    batch_size: Annotated[_AutoCount, Setting(option=True, words=("auto",))] = Field(
        12, ge=0, description="Samples per step over all workers together; auto (0): as many as memory has room for."
    )
    accumulate: Annotated[_AutoCount, Setting(words=("auto",))] = Field(
        1,
        ge=0,
        description="Gradient accumulation: forward passes per step and worker; auto (0): as few as memory allows.",
    )
    keep_start: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Interpolate the kept weights with those of `init` (WiSE-FT): share of the latter; 0 does not.",
    )


class LossSettings(Settings):
    """The loss: a sum over the fused map and the six side outputs (deep supervision)."""

    title: ClassVar[str] = "Loss"

    bce: float = Field(1.0, ge=0, description="Weight of the binary cross-entropy.")
    iou: float = Field(1.0, ge=0, description="Weight of the soft intersection over union.")
    ssim: float = Field(0.5, ge=0, description="Weight of the structural similarity, on the two finest maps.")
    edge: float = Field(4.0, ge=0, description="Extra weight of pixels near an edge of the target mask.")
    sides: tuple[float, float, float, float, float, float] = Field(
        (1.0, 0.5, 0.25, 0.25, 0.25, 0.25), description="Weights of the six side outputs, relative to the fused map."
    )


class TrainSettings(RunSettings):
    """One training run."""

    title: ClassVar[str] = "Training"

    architecture: Architecture = Field("u2netp", description="Network to train.")
    init: Annotated[str, ModelFile] = Field(
        "", description="Initial weights: a model's name or a file; empty starts from random weights."
    )
    teacher: Annotated[str, ModelFile] = Field(
        "", description="Teacher model for distillation: a name or a file; empty for none."
    )
    teacher_share: float = Field(
        0.5, ge=0, le=1, description="Share of the teacher's map in the target; the rest is the mask."
    )
    workers: Annotated[int, Setting(affects_result=False, option=True)] = Field(
        1, ge=1, description="Training processes (data parallel)."
    )
    min_workers: Annotated[int, _RESOURCES] = Field(
        0, ge=0, description="Fewest workers to continue with when nodes are lost; 0 means all."
    )
    cpus_per_worker: Annotated[float, _RESOURCES] = Field(1.0, gt=0, description="CPUs that Ray reserves per worker.")
    threads_per_worker: Annotated[int, _RESOURCES] = Field(
        0, ge=0, description="CPU threads of each worker; 0 shares this machine's cores among them."
    )
    gpus_per_worker: Annotated[float, _RESOURCES] = Field(0.0, ge=0, description="GPUs of each worker.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Number format of the forward pass.")
    compile: Annotated[bool, _RESOURCES] = Field(
        False, description="Compile network and loss with torch.compile; pays off in long runs on GPUs."
    )
    cuda_graph: Annotated[bool, _RESOURCES] = Field(
        False, description="Replay each training step as a captured CUDA graph; for one worker with one GPU."
    )
    grad_checkpointing: Annotated[bool, Setting(affects_result=False, option=True)] = Field(
        False, description="Compute activations again in the backward pass: less memory, longer steps."
    )
    profile: Annotated[str, Setting(affects_result=False, option=True), FilePath] = Field(
        "", description="Folder for a profile of the first steps: a trace, top kernels, waiting for data; empty: none."
    )
    tensorboard: Annotated[str, Setting(affects_result=False, option=True), FilePath] = Field(
        "", description="Folder in which each run writes for TensorBoard, beside MLflow; empty: none."
    )
    batch_memory_gb: Annotated[float, _RESOURCES] = Field(
        0.0, ge=0, description="Memory for a step on a processor, in GB, for batch size auto; 0: half of what is free."
    )
    freeze: Literal["none", "encoder"] = Field(
        "none", description="Part of the network whose weights and batch statistics stay as they are."
    )
    checkpoint_every_steps: Annotated[int, _RESOURCES] = Field(
        500, ge=1, description="Steps between checkpoints within an epoch."
    )
    keep_checkpoints: Annotated[int, _RESOURCES] = Field(3, ge=2, description="Newest checkpoints that are kept.")
    patience_epochs: int = Field(
        0, ge=0, description="Early stopping: epochs without a better score after which the run ends; 0 never."
    )
    max_minutes: Annotated[float, _RESOURCES] = Field(
        0.0, ge=0, description="Minutes after which the run ends in an orderly way; 0 never."
    )
    max_failures: Annotated[int, _RESOURCES] = Field(
        3, ge=0, description="Worker failures after which the run is given up."
    )
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    loss: LossSettings = LossSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse settings that each are right and together are not."""
        if self.grad_checkpointing and self.compile:
            raise ValueError("grad_checkpointing and compile do not go together: use one of them")
        return self
