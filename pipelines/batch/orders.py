"""What an actor must know to do its work."""

from __future__ import annotations

from dataclasses import dataclass

from cutray.config import RemoverSettings
from pipelines.batch.storage import Storage


@dataclass(frozen=True, slots=True)
class Orders:
    """All that an actor must know; it travels to other machines.

    Attributes:
        settings: How to cut out.
        format: File format of the results.
        source: Storage of the photos.
        target: Storage of the results.
        masks: Storage of the masks, or None.
        write_empty: Write fully transparent pictures where there is no subject.
        settings_hash: For the manifest.
        model_sha256: What the weights must be; machines with other bytes under the same name are refused.
        attempts: Times that a photo may take its process down before it is given up.
    """

    settings: RemoverSettings
    format: str
    source: Storage
    target: Storage
    masks: Storage | None
    write_empty: bool
    settings_hash: str
    model_sha256: str
    attempts: int
