"""Where the files of a job lie: its photos under numbers, so that no name of a stranger reaches the file system."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ENDING = ".photo"


@dataclass(frozen=True, slots=True)
class Spool:
    """The folder of one job.

    Attributes:
        folder: The folder; it may not exist yet.
    """

    folder: Path

    @classmethod
    def of(cls, root: str, job_id: str) -> Spool:
        """Return the folder of a job below the folder of all jobs."""
        return cls(Path(root, "jobs", job_id))

    @property
    def input(self) -> Path:
        """Folder of the photos."""
        return self.folder / "input"

    @property
    def pattern(self) -> str:
        """What a batch takes for its source."""
        return f"{self.input}/*{_ENDING}"

    @property
    def results(self) -> Path:
        """Folder of the results, which a batch writes."""
        return self.folder / "results"

    @property
    def background(self) -> Path:
        """The picture that subjects are laid on, if there is one."""
        return self.folder / "background"

    @property
    def lock(self) -> Path:
        """File that the process of the job has locked."""
        return self.folder / "lock"

    @property
    def log(self) -> Path:
        """What the process of the job prints."""
        return self.folder / "log"

    @property
    def failure(self) -> Path:
        """Why the last process of the job ended without a result, where it could say so."""
        return self.folder / "failure.json"

    def photo(self, number: int) -> Path:
        """Return the file of a photo."""
        return self.input / f"{number:06d}{_ENDING}"

    def write(self, path: Path, blocks: Iterable[bytes]) -> tuple[int, str]:
        """Write a file block by block.

        Returns:
            Its size in bytes, and the SHA-256 of its content.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest, size_bytes = hashlib.sha256(), 0
        unfinished = path.with_name(f".{path.name}")  # no batch takes a hidden file
        with open(unfinished, "wb") as file:
            for block in blocks:
                digest.update(block)
                size_bytes += file.write(block)
        os.replace(unfinished, path)
        return size_bytes, digest.hexdigest()

    def size_bytes(self) -> int:
        """Return how many bytes the results have."""
        return sum(path.stat().st_size for path in self.results.glob("*") if path.is_file())

    def drop_input(self) -> None:
        """Delete what came from the client; results stay."""
        shutil.rmtree(self.input, ignore_errors=True)
        self.background.unlink(missing_ok=True)

    def drop(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def number_of(key: str) -> int:
    """Return the number of the photo that a batch calls by this key."""
    return int(key.removesuffix(_ENDING))
