"""Settings of the training data and its augmentation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cutray.config.base import Settings
from cutray.config.metadata import Setting
from cutray.config.paths import FilePath

# What the folders hold decides the result, and the catalog's fingerprint tells that; where they lie does not.
_FOLDER = Setting(affects_result=False, option=True)


class DataSettings(Settings):
    """What a training run learns from."""

    title: ClassVar[str] = "Data"

    folders: Annotated[tuple[str, ...], Setting(affects_result=False, option=True, flag="--data"), FilePath] = Field(
        (), description="Folder with images/ and masks/ (or another known layout)."
    )
    image_dir: Annotated[str | None, _FOLDER, FilePath] = Field(
        None, description="Folder of photos, whose masks are in data.mask_dir."
    )
    mask_dir: Annotated[str | None, _FOLDER, FilePath] = Field(
        None, description="Folder of masks with the names of the photos."
    )
    validation: Annotated[str | None, Setting(affects_result=False), FilePath] = Field(
        None, description="Folder to validate on; without it, a share of the pairs is held out."
    )
    subject_values: Annotated[tuple[float, ...], Setting(option=True, flag="--subject-value")] = Field(
        (), description="Value in the masks that is the subject, where they hold class numbers or are inverted."
    )
    ignore_value: Annotated[float | None, Setting(option=True)] = Field(
        None, description="Value in the masks that means unknown; it counts as half covered in training."
    )
    validation_share: float = Field(0.1, gt=0, lt=1, description="Share of the pairs that is held out for validation.")
    folds: Annotated[int, Setting(option=True)] = Field(
        0, ge=0, le=50, description="k-fold cross-validation: parts, each of which is held out by one run; 0: none."
    )
    fold: int = Field(
        0, ge=0, le=50, description="The part that this run holds out, from 1 to data.folds; 0: all runs."
    )
    limit: int = Field(0, ge=0, description="Most training pairs to use; 0 means all.")
    repeat: int = Field(1, ge=1, description="Times that each pair, augmented anew, counts in an epoch.")
    scenes: int = Field(0, ge=0, description="Synthetic scenes with exact alpha added to each epoch.")
    validation_scenes: int = Field(0, ge=0, description="Synthetic scenes added to the validation.")
    validation_family: Literal["train", "test"] = Field(
        "test", description="Generator of the synthetic validation scenes: that of training, or that of the tests."
    )
    cases: tuple[Literal["ordinary", "fine_detail", "transparency", "reflectivity", "texture", "empty"], ...] = Field(
        ("ordinary", "fine_detail", "transparency", "reflectivity", "texture", "empty"),
        min_length=1,
        description="Kinds of synthetic scenes, in turns.",
    )
    side_px: int = Field(320, ge=32, le=2048, description="Side of the network's input, in pixels.")
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = Field(
        (1.0,), min_length=1, description="Multi-scale training: each step takes one of these multiples of side_px."
    )
    cache: Literal["none", "ram", "device"] = Field(
        "none",
        description="Keep the decoded samples in RAM or in the GPU's memory, and augment them there in batches.",
    )
    loaders: Annotated[int, Setting(affects_result=False)] = Field(
        1, ge=1, description="Concurrent data loading tasks per worker."
    )

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        """Refuse folds that cannot be made."""
        if self.folds == 1 or self.fold > self.folds:
            raise ValueError(f"folds {self.folds} and fold {self.fold}: two folds or more, and one of them")
        if self.folds and self.validation is not None:
            raise ValueError("folds and a folder to validate on do not go together: use one of them")
        return self


class AugmentSettings(Settings):
    """Data augmentation. Probabilities are per sample; every random choice follows from seed, epoch and sample."""

    title: ClassVar[str] = "Augmentation"

    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    cut_subject: float = Field(
        0.0, ge=0, le=1, description="Probability of a crop that cuts away 20 to 60 % of the subject's box at one side."
    )
    crop: float = Field(0.2, ge=0, lt=1, description="Largest share of each side that a random crop removes.")
    rotate_deg: float = Field(10.0, ge=0, le=180, description="Largest rotation to either side, in degrees.")
    perspective: float = Field(0.05, ge=0, le=0.4, description="Largest shift of a corner, as a share of the side.")
    warp: float = Field(0.5, ge=0, le=1, description="Probability of rotation and perspective.")
    color: float = Field(
        0.4, ge=0, le=1, description="Strength of changes of brightness, contrast, hue and color temperature."
    )
    low_light: float = Field(0.05, ge=0, le=1, description="Probability of a dark, noisy exposure.")
    grey: float = Field(0.05, ge=0, le=1, description="Probability of conversion to greyscale.")
    blur: float = Field(0.15, ge=0, le=1, description="Probability of blur or a lower resolution.")
    noise: float = Field(0.15, ge=0, le=1, description="Probability of sensor noise.")
    jpeg: float = Field(0.2, ge=0, le=1, description="Probability of JPEG artefacts.")
    new_background: float = Field(
        0.1, ge=0, le=1, description="Probability that the subject is composed onto a background from another photo."
    )
