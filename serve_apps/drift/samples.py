"""A folder with the photos that the network is least sure of, so that somebody can label them. Off unless asked for."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cutray.errors import CutrayError, OutputError
from cutray.imaging.files import write_atomically
from cutray.preflight import check_writable
from cutray.removal import RemovalReport
from cutray.tta import Prediction

IMAGES, MASKS = "images", "masks"
_DAY_S = 86_400
_HASH_SIDE_PX, _QUALITY = 32, 95


@dataclass(frozen=True, slots=True)
class SampleFolder:
    """The least sure photos so far, at most so many, and not longer than so many days.

    The name of a sample begins with its score in thousandths, so that the folder needs no list, and all processes that
    write to it agree which is the surest.

    Attributes:
        folder: Holds ``images`` and ``masks``.
        most: Most photos.
        days: Days until one is deleted.
    """

    folder: Path
    most: int
    days: float

    def offer(self, image: np.ndarray, prediction: Prediction, report: RemovalReport) -> bool:
        """Keep a photo if it is one of the least sure ones, without its metadata; the surest makes room.

        Args:
            image: (H, W, 3) uint8 sRGB.
            prediction: What the network says of it.
            report: What is known about its mask.

        Returns:
            Whether it was kept.

        Raises:
            OutputError: The folder cannot be written.
        """
        score = sureness(report, prediction)
        kept = self.names()
        name = f"{round(1000 * score):04d}-{_hash(image)}"
        if name in kept or (len(kept) >= self.most and name >= kept[-1]):
            return False
        mask = cv2.resize(prediction.probs, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
        levels = np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The mask comes first: a photo without one would be no pair.
        write_atomically(self._mask(name), _encode(".png", levels), overwrite=True)
        write_atomically(self._image(name), _encode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR)), overwrite=True)
        for surplus in self.names()[self.most :]:
            self._delete(surplus)
        return True

    def names(self) -> list[str]:
        """Return the names of the photos, the least sure first."""
        try:
            return sorted(path.stem for path in (self.folder / IMAGES).iterdir() if path.suffix == ".jpg")
        except OSError:
            return []

    def expire(self) -> int:
        """Delete what is older than its days; returns how many photos are left."""
        oldest = time.time() - self.days * _DAY_S
        for path in _pictures(self.folder):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
        return len(self.names())

    def _image(self, name: str) -> Path:
        return self.folder / IMAGES / f"{name}.jpg"

    def _mask(self, name: str) -> Path:
        return self.folder / MASKS / f"{name}.png"

    def _delete(self, name: str) -> None:
        """Delete a photo, then its mask; another process may have been quicker."""
        for path in (self._image(name), self._mask(name)):
            with contextlib.suppress(OSError):
                path.unlink()


def sureness(report: RemovalReport, prediction: Prediction) -> float:
    """Say how sure the network is of its answer, in [0, 1].

    Args:
        report: Its confidence counts where there is a subject; where there is none, a high probability anywhere means
            doubt.
        prediction: The map, and how well the frame and its mirror image agree, which two looks at one photo should.
    """
    confidence = report.confidence if report.subject_found else 1.0 - float(prediction.probs.max(initial=0.0))
    return float(np.clip(min(confidence, prediction.agreement), 0, 1))


def check_folder(folder: str) -> None:
    """Make the folder, for nobody else to read, before the endpoint starts.

    Raises:
        CutrayError: It cannot be made or written.
    """
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        check_writable(Path(folder) / IMAGES)
    except (OSError, OutputError) as error:
        why = error.got if isinstance(error, OutputError) else error.strerror
        raise CutrayError(
            got=f"the folder {folder!r} for samples cannot be used: {why}", fix="choose another one"
        ) from error


def _encode(ending: str, picture: np.ndarray) -> bytes:
    """Encode a picture without any metadata: with Cutray's mark it would count as a result, not as a photo."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if ending == ".jpg" else []
    encoded: bytes = cv2.imencode(ending, picture, options)[1].tobytes()
    return encoded


def _hash(image: np.ndarray) -> str:
    """Name a photo by what it shows, so that the same one that is sent again is kept once."""
    small = cv2.resize(image, (_HASH_SIDE_PX, _HASH_SIDE_PX), interpolation=cv2.INTER_AREA)
    return hashlib.sha256(small.tobytes() + str(image.shape).encode()).hexdigest()[:16]


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield all files of both parts."""
    for part in (IMAGES, MASKS):
        with contextlib.suppress(OSError):
            yield from sorted((folder / part).glob("*.*g"))
