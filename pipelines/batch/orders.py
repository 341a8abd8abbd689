"""What an actor must know to do its work."""

from __future__ import annotations

from dataclasses import dataclass

from cutray.config import RemoverSettings
from pipelines.batch.storage import Reader, Storage


@dataclass(frozen=True, slots=True)
class Orders:
    """All that an actor must know; it travels to other machines.

    Attributes:
        settings: How to cut out.
        format: File format of the results.
        source: What reads the photos.
        target: Storage of the results.
        masks: Storage of the masks, or None.
        sink: files, or the kind of shard that results go to.
        shard_masks: Put masks into the shards.
        write_empty: Write fully transparent pictures where there is no subject.
        settings_hash: For the manifest.
        model_sha256: What the weights must be; machines with other bytes under the same name are refused.
        attempts: Times that a photo may take its process down before it is given up.
    """

    settings: RemoverSettings
    format: str
    source: Reader
    target: Storage
    masks: Storage | None
    sink: str
    shard_masks: bool
    write_empty: bool
    settings_hash: str
    model_sha256: str
    attempts: int
