"""Every error that Cutray raises on purpose.

::

    CutrayError
    ├── InputError                      the photo or an option that came with it cannot be used
    │   ├── DecodeError                 not a picture, or a damaged one
    │   │   └── UnsupportedFormatError  a file type that is never opened
    │   ├── ImageTooLargeError          bytes, side, pixels or scans above a limit, or no memory
    │   ├── ShapeMismatchError          two arrays that belong together differ in size
    │   └── OptionError                 an option has a value that is not allowed
    ├── OutputError                     the result cannot be written
    │   └── OutputExistsError           the file is there already and may not be overwritten
    ├── ConfigError                     settings with unknown keys or values out of range
    ├── WeightsError                    model weights cannot be used
    │   ├── UnknownModelError           no such name, no such file
    │   ├── WeightsUnavailableError     not on this machine and not obtainable now
    │   └── ChecksumError               the bytes are not the pinned ones
    ├── EngineError                     the network cannot be run
    │   └── EngineUnavailableError      the engine or device that was asked for is not there
    ├── DatasetError                    an evaluation or training folder is not usable
    ├── TrainingError                   a training run cannot go on
    │   └── CheckpointError             no checkpoint is whole
    └── MissingExtraError               an optional package is not installed

Each error says what was got, what is allowed and what to do about it, carries a stable ``code`` for
programs, and survives pickling, because Ray sends errors between processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_OPENCV_OUT_OF_MEMORY = -4  # cv2.Error.StsNoMem, without loading OpenCV


class CutrayError(Exception):
    """Base of the tree: catch this to catch everything that Cutray raises on purpose.

    Args:
        got: What was found, as a clause without a full stop.
        allowed: What would have been right.
        fix: What the reader can do now.
    """

    code = "error"

    def __init__(self, got: str, allowed: str = "", fix: str = "") -> None:
        """Keep every part in ``args``, so that the error survives pickling."""
        super().__init__(got, allowed, fix)
        self.got = got
        self.allowed = allowed
        self.fix = fix

    def __str__(self) -> str:
        """Join the parts into sentences."""
        first = self.got.rstrip(". ") + (f" (allowed: {self.allowed.rstrip('. ')})" if self.allowed else "")
        first += "" if first.endswith("?") else "."
        return f"{first} {self.fix[0].upper()}{self.fix[1:].rstrip('. ')}." if self.fix else first


class InputError(CutrayError):
    """The photo, or an option that came with it, cannot be used."""

    code = "bad_input"


class DecodeError(InputError):
    """The bytes are not a picture, or the picture is damaged."""

    code = "not_decodable"


class UnsupportedFormatError(DecodeError):
    """The file type is one that is never opened, whatever its name says."""

    code = "unsupported_format"


class ImageTooLargeError(InputError):
    """The picture exceeds a limit, and was refused before its pixels were decoded; or memory ran out over it."""

    code = "too_large"


class ShapeMismatchError(InputError):
    """Two arrays that belong together differ in height or width."""

    code = "shape_mismatch"


class OptionError(InputError):
    """An option has a value that is not allowed, or two options contradict each other."""

    code = "bad_option"


class OutputError(CutrayError):
    """The result cannot be written."""

    code = "not_writable"


class OutputExistsError(OutputError):
    """The output file exists and overwriting was not asked for."""

    code = "output_exists"


class ConfigError(CutrayError):
    """Settings hold unknown keys or values out of range; all problems are listed at once."""

    code = "bad_config"


class WeightsError(CutrayError):
    """Model weights cannot be used."""

    code = "bad_weights"


class UnknownModelError(WeightsError):
    """No model of that name is known and no file of that name exists."""

    code = "unknown_model"


class WeightsUnavailableError(WeightsError):
    """The weights are not on this machine and cannot be obtained now."""

    code = "weights_unavailable"


class ChecksumError(WeightsError):
    """The bytes differ from the pinned ones and were refused."""

    code = "checksum_mismatch"


class EngineError(CutrayError):
    """The network cannot be run."""

    code = "engine_failed"


class EngineUnavailableError(EngineError):
    """The engine, device or precision that was asked for is not available here."""

    code = "engine_unavailable"


class DatasetError(CutrayError):
    """An evaluation or training folder is not usable."""

    code = "bad_dataset"


class TrainingError(CutrayError):
    """A training run cannot begin or go on."""

    code = "training_failed"


class CheckpointError(TrainingError):
    """A checkpoint is incomplete or damaged."""

    code = "bad_checkpoint"


class MissingExtraError(CutrayError):
    """An optional package is not installed."""

    code = "missing_extra"


def is_lack_of_memory(error: BaseException) -> bool:
    """Tell whether Python, OpenCV, or PyTorch on a GPU says that memory has run out."""
    of_opencv = type(error).__module__ == "cv2" and getattr(error, "code", None) == _OPENCV_OUT_OF_MEMORY
    return isinstance(error, MemoryError) or of_opencv or type(error).__name__ == "OutOfMemoryError"


@contextmanager
def lack_of_memory_as_error() -> Iterator[None]:
    """Turn what Python, OpenCV and PyTorch raise where memory runs out into an error of the photo in work.

    Raises:
        ImageTooLargeError: Memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_lack_of_memory(error):
            raise
        raise ImageTooLargeError(
            got="the photo needs more memory than there is", fix="end other programs, or make the photo smaller"
        ) from error
