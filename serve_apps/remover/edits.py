"""The edits that a Cutter keeps: photos whose mask is being corrected, within limits of number, memory and time."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from cutray.config import RemoverSettings
from cutray.edit import Edit
from cutray.hints import Hints
from cutray.imaging.encode import encode_image
from cutray.imaging.subject_box import Box, mask_box
from cutray.matting.matte import Matte
from cutray.render import shape_alpha
from cutray.segmenter import NetworkInfo
from cutray.sources import Photo
from serve_apps.remover.schemas import Limits


class EditGoneError(Exception):
    """There is no such edit, or it is somebody else's; the two are not told apart."""


class EditRoomError(Exception):
    """The edits of others leave no room for another one."""


@dataclass(slots=True)
class KeptEdit:
    """One photo being edited.

    Attributes:
        owner: Name of the API key that began it.
        data: The encoded photo.
        photo: The decoded photo.
        settings: What was asked for when it began.
        edit: What the network saw.
        network: What made the prediction.
        looks: How many views the network saw.
        matte: The mask as it is now.
        alpha: (H, W) uint8, the mask as clients know it.
        model: Name of the model that was chosen, or empty for the default one.
        revision: Counts its changes.
        lock: One change at a time.
    """

    owner: str
    data: bytes
    photo: Photo
    settings: RemoverSettings
    edit: Edit
    network: NetworkInfo
    looks: int
    matte: Matte
    alpha: np.ndarray
    model: str = ""
    revision: int = 0
    used_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size_bytes(self) -> int:
        """How much memory its photo and its masks take."""
        image, flattened = self.photo.image, self.photo.flattened
        arrays = [image.pixels, image.pixels_uint16, image.alpha, self.matte.alpha, self.alpha]
        if flattened is not image.pixels:
            arrays.append(flattened)
        return len(self.data) + sum(array.nbytes for array in arrays if array is not None)

    def apply(self, hints: Hints) -> Box | None:
        """Compute the mask anew, by all hints that there are.

        Returns:
            Left, top, right, bottom of what has changed, or None if nothing has.
        """
        matte = self.edit.matte(hints)
        alpha = shown_alpha(matte, self.photo, self.settings)
        changed = alpha != self.alpha
        self.matte, self.alpha = matte, alpha
        box = mask_box(changed)
        if box is not None:
            self.revision += 1
        return box

    def encode_alpha(self, box: Box) -> bytes:
        """Encode a part of the mask as a grey PNG."""
        left, top, right, bottom = box
        return encode_image(np.ascontiguousarray(self.alpha[top:bottom, left:right]), "PNG")


def shown_alpha(matte: Matte, photo: Photo, settings: RemoverSettings) -> np.ndarray:
    """Compute the alpha channel as clients get it, (H, W) uint8.

    Args:
        matte: The mask.
        photo: The photo; where it was transparent before, the result stays transparent.
        settings: Threshold and inversion.
    """
    shaped = shape_alpha(matte.alpha, photo.image, settings)
    return np.asarray(cv2.convertScaleAbs(shaped, alpha=255.0))


def _call_later(delay_s: float, work: Callable[[], None]) -> None:
    """Have the running event loop do something later."""
    asyncio.get_running_loop().call_later(delay_s, work)


class EditStore:
    """All edits of one Cutter, by id. An id begins with the replica's, which requests are routed by."""

    def __init__(
        self,
        replica: str,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = _call_later,
    ) -> None:
        """Begin empty.

        Args:
            replica: Id of the replica.
            limits: How many edits, how much memory, how long.
            clock: Seconds.
            later: Does something after so many seconds.
        """
        self._replica, self._limits, self._clock, self._later = replica, limits, clock, later
        self._kept: dict[str, KeptEdit] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def put(self, edit: KeptEdit) -> str:
        """Keep an edit; if need be, the least recently used ones of the same owner are given up for it.

        Returns:
            Its id, which nobody can guess.

        Raises:
            EditRoomError: The edits of others leave no room; nothing is given up then.
        """
        self.sweep()
        others = [kept.size_bytes for kept in self._kept.values() if kept.owner != edit.owner]
        if others and sum(others) + edit.size_bytes > self._limits.max_edit_bytes:
            raise EditRoomError
        own = sorted((kept.used_at, name) for name, kept in self._kept.items() if kept.owner == edit.owner)
        while own and (len(own) >= self._limits.max_edits_per_key or not self._has_room(edit)):
            del self._kept[own.pop(0)[1]]
        edit_id = f"{self._replica}.{secrets.token_urlsafe(18)}"
        self._kept[edit_id] = edit
        self._use(edit)
        return edit_id

    def get(self, edit_id: str, owner: str) -> KeptEdit:
        """Return an edit, which thereby lives on.

        Raises:
            EditGoneError: There is none, or it is not the owner's.
        """
        self.sweep()
        kept = self._kept.get(edit_id)
        if kept is None or not hmac.compare_digest(kept.owner.encode(), owner.encode()):
            raise EditGoneError
        self._use(kept)
        return kept

    def drop(self, edit_id: str, owner: str) -> None:
        """Give an edit up.

        Raises:
            EditGoneError: There is none, or it is not the owner's.
        """
        self.get(edit_id, owner)
        del self._kept[edit_id]

    def sweep(self) -> None:
        """Give up what has not been used for long."""
        oldest = self._clock() - self._limits.edit_ttl_s
        for name in [name for name, kept in self._kept.items() if kept.used_at < oldest]:
            del self._kept[name]

    def _use(self, edit: KeptEdit) -> None:
        """Note that an edit is used, and see to it that it is given up in time, even if no other request comes."""
        edit.used_at = self._clock()
        self._later(self._limits.edit_ttl_s + 1, self.sweep)

    def _has_room(self, edit: KeptEdit) -> bool:
        """Whether another edit fits into the memory; the only one always does."""
        used = sum(kept.size_bytes for kept in self._kept.values())
        return not self._kept or used + edit.size_bytes <= self._limits.max_edit_bytes
