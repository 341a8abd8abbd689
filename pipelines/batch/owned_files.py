"""Tells files that the batch has made from those of others, which it does not replace unasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import ManifestEntry, PhotoStatus
from pipelines.batch.names import folded, mask_name

# Of the manifest: they tell what a photo has left in the target, whatever becomes of it now.
LEFT_COLUMNS = ("output_bytes", "output_sha256", "mask_bytes", "mask_sha256")


class FolderFiles:
    """Files of a folder by name. A name that is not there stands for one that some file system takes for it."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        """Take the name and the size in bytes of each file."""
        self._sizes = sizes
        self._names = {folded(name): name for name in sizes}

    def name(self, wanted: str) -> str | None:
        """Return the name of the file that writing to a name may replace, or None."""
        return wanted if wanted in self._sizes else self._names.get(folded(wanted))

    def size(self, wanted: str) -> int | None:
        """Return the size of that file."""
        found = self.name(wanted)
        return None if found is None else self._sizes[found]


@dataclass(frozen=True, slots=True)
class OwnedFiles:
    """Which files in the target and in the folder for masks are the batch's own.

    Attributes:
        outputs: Files in the target.
        masks: Files in the folder for masks.
        job: What the caller allows, with the fingerprint of its settings.
        masks_moved: Whether the folder for masks is another one than in the last run.
    """

    outputs: FolderFiles
    masks: FolderFiles
    job: BatchJob
    masks_moved: bool

    def is_claimed(self, entry: ManifestEntry | None, output: str) -> bool:
        """Whether an earlier run has claimed the names of a photo's result and of its mask."""
        return _is_claimed(entry) and (self.job.masks is None or self._owns_mask(entry, output))

    def obstacle(self, known: Iterable[ManifestEntry | None], output: str) -> str:
        """Say which file of others a result or its mask would replace; nothing where there is none.

        Args:
            known: What the manifest knows of the photos that the result is made from.
            output: Name of the result.
        """
        known = list(known)
        found = self.outputs.name(output)
        if found is not None and not any(self._owns_output(entry, output) for entry in known):
            return f"the file {found!r} is in the target and was not made by a batch"
        found = self.masks.name(mask_name(output))
        if found is not None and not any(self._owns_mask(entry, output) for entry in known):
            return f"the file {found!r} is in the folder for masks and was not made by a batch"
        return ""

    def left(self, entry: ManifestEntry | None, output: str) -> dict[str, Any]:
        """Return size and hash of our own files under a photo's names, as columns of the manifest.

        A file whose size is not as noted has no hash: nobody knows what it holds.
        """
        if entry is None or self.job.sink != "files":
            return {}
        left: dict[str, Any] = {}
        size = self.outputs.size(output)
        if size is not None and self._owns_output(entry, output):
            left |= {"output_bytes": size, "output_sha256": entry.output_sha256 if size == entry.output_bytes else None}
        size = self.masks.size(mask_name(output))
        if size is not None and self._owns_mask(entry, output):
            left |= {"mask_bytes": size, "mask_sha256": entry.mask_sha256 if size == entry.mask_bytes else None}
        return left

    def _owns_output(self, entry: ManifestEntry | None, output: str) -> bool:
        """Whether the file of a result is ours; that of a photo that failed is while its size is as noted."""
        if entry is None or _is_claimed(entry):
            return entry is not None
        return entry.output_bytes is not None and entry.output_bytes == self.outputs.size(output)

    def _owns_mask(self, entry: ManifestEntry | None, output: str) -> bool:
        """Whether the file of a mask is ours, or would be if there was one.

        Settings tell whether there are masks, so that whoever has claimed a result with these has claimed its mask.
        """
        if entry is None:
            return False
        if entry.mask_bytes is not None and entry.mask_bytes == self.masks.size(mask_name(output)):
            return True
        with_mask = entry.mask_bytes is not None or entry.settings_hash == self.job.settings_hash
        return with_mask and _is_claimed(entry) and not self.masks_moved


def _is_claimed(entry: ManifestEntry | None) -> bool:
    """Whether an earlier run has claimed the name of a photo's result."""
    return entry is not None and (
        entry.finished or entry.status == PhotoStatus.PENDING or entry.shard_bytes is not None
    )
