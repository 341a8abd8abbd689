"""Remembered hashes of weight files."""

from __future__ import annotations

import json
from pathlib import Path

from cutray.models import hashing


def test_notes_about_files_that_are_gone_are_removed(tmp_path: Path) -> None:
    """The folder of remembered hashes does not grow with every file that was ever used."""
    notes = tmp_path / "verified"
    for name in ("first", "second", "third"):
        (tmp_path / name).write_text(name)
        hashing.digest_file(tmp_path / name, notes, with_md5=False)
    assert len(list(notes.iterdir())) == 3
    (notes / "old.json").write_text('{"stamp": [1, 2, 3], "digests": {"sha256": "", "md5": ""}}')
    (tmp_path / "first").unlink()
    (tmp_path / "second").write_text("changed")
    hashing.digest_file(tmp_path / "second", notes, with_md5=False)
    assert sorted(Path(json.loads(note.read_text())["path"]).name for note in notes.iterdir()) == ["second", "third"]
