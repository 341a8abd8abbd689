"""A note beside a run's weights that it is done, and with which settings and photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cutray.imaging.files import write_atomically


def noted_settings(note: Path) -> str | None:
    """Return the fingerprint that a finished run has noted; None where it is not finished, or its note is damaged."""
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return noted if isinstance(noted, str) else None


def write_note(note: Path, settings: str, **facts: Any) -> None:
    """Note that a run is done.

    Args:
        note: The file.
        settings: Fingerprint of its settings and photos.
        facts: What else is worth knowing.
    """
    write_atomically(note, json.dumps({"settings": settings, **facts}).encode(), overwrite=True)
