"""What one batch is about: photos, results, settings, and what to do with what is there already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from cutray.config import BatchSettings, RemoverSettings
from cutray.errors import OptionError
from cutray.preflight import check_output_settings, check_writable
from cutray.sources import output_format
from pipelines.batch.names import forward_slashes
from pipelines.batch.storage import open_storage
from pipelines.batch.storage_base import Storage


@dataclass(frozen=True, slots=True)
class BatchJob:
    """All choices of one batch. It travels to the workers as it is.

    Attributes:
        source: Folder, pattern, list or address of the photos.
        target: Folder or address of the results.
        settings: How to cut out.
        batch_settings: Workers, cluster and limits.
        masks: Folder or address of the masks, or None for no masks.
        shard_masks: Put masks into the shards.
        retry_failed: Try photos again that failed before.
        reprocess: Do photos again whose results were made with other settings.
        verify: Compare contents by hash instead of by size and time.
        overwrite: Replace files in the target, and among the masks, that no batch has made.
        allow_empty: Write a fully transparent picture where there is no subject.
        report: Write the HTML report.
        on_ray: Have Ray do the work; otherwise processes of this machine do.
        skip_results: Leave out pictures that Cutray has made, set where the source is a folder.
        model_sha256: Identity of the network, set when its weights are resolved; machines with another one are refused.
        settings_hash: Fingerprint of all that changes a result, set with ``model_sha256``.
    """

    source: str
    target: str
    settings: RemoverSettings
    batch_settings: BatchSettings
    masks: str | None = None
    shard_masks: bool = False
    retry_failed: bool = False
    reprocess: bool = False
    verify: bool = False
    overwrite: bool = False
    allow_empty: bool = False
    report: bool = True
    on_ray: bool = False
    skip_results: bool = False
    model_sha256: str = ""
    settings_hash: str = ""

    @property
    def format(self) -> str:
        """File format of the results, such as PNG."""
        return output_format(self.settings, None)

    @property
    def sink(self) -> str:
        """Where results go: files, parquet or webdataset."""
        if self.batch_settings.sink != "auto":
            return self.batch_settings.sink
        path = forward_slashes(self.target).partition("?")[0].rstrip("/")
        return "parquet" if path.lower().endswith(".parquet") else "files"

    @property
    def target_storage(self) -> Storage:
        """Storage of the results."""
        return open_storage(self.target)

    @property
    def mask_storage(self) -> Storage | None:
        """Storage of the masks, or None for no masks."""
        return open_storage(self.masks) if self.masks else None

    def storages(self) -> list[Storage]:
        """Return every storage that the job writes to."""
        return [self.target_storage, *([self.mask_storage] if self.mask_storage else [])]

    def result_choices(self) -> dict[str, Any]:
        """Return what changes the results besides the settings."""
        choices = {"format": self.format, "masks": self.masks is not None, "allow_empty": self.allow_empty}
        return choices if self.sink == "files" else {**choices, "sink": self.sink, "shard_masks": self.shard_masks}

    def check(self) -> None:
        """Refuse choices that contradict each other, or that no photo could be done with.

        Raises:
            OptionError: A folder has no name, the background or the format cannot be used, masks have no place in the
                sink, or photos, results and masks would share a folder.
        """
        if "" in (self.source, self.target, self.masks):
            raise OptionError(
                got="an empty name of a folder", allowed="a folder or an address", fix="check the variable"
            )
        check_output_settings(self.settings)
        if (self.shard_masks and self.sink == "files") or (self.masks and self.sink != "files"):
            raise OptionError(
                got=f"{'--shard-masks' if self.shard_masks else '--masks'} with the sink {self.sink}",
                allowed="--masks FOLDER with files, --shard-masks with parquet and webdataset",
                fix="use the other one",
            )
        addresses = [open_storage(self.source).address, *(storage.address for storage in self.storages())]
        if len(set(addresses)) < len(addresses):
            raise OptionError(
                got="one folder for photos, results or masks", allowed="a folder for each", fix="choose another one"
            )
        for address in (self.target, self.masks):
            if address and "://" not in address:
                check_writable(os.path.join(address, "result"))
