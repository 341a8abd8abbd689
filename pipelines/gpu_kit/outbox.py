"""What is to come back, in parts; each call takes as many as it may, in the order in which they were made."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.gpu_kit.parts import PART_BYTES, write_parts

# One call brings back 8 files with 64 MiB in all; two of them are reports.
_FILES, _BYTES = 6, 60 << 20
# Larger checkpoints would take several calls; then only the best weights come back, in half precision.
_LARGEST_CHECKPOINT = 48 << 20


class Outbox:
    """Parts that wait to be sent."""

    def __init__(self, folder: Path) -> None:
        """Take up what an earlier call left."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, files: Mapping[str, Path]) -> None:
        """Put files in, together as one archive.

        Args:
            name: Name of the archive, and of the folder that its files will be in.
            files: Where they are, by the names that they shall have.
        """
        order = sum(1 for _ in self._folder.iterdir())
        folder = self._folder / f"{order:04}"
        folder.mkdir()
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "archive.zip"
            with zipfile.ZipFile(archive, "w") as stored:
                for inside, path in files.items():
                    # A trace is text, and most of what is in it is said again and again; weights do not get smaller.
                    kind = zipfile.ZIP_DEFLATED if path.suffix == ".json" else zipfile.ZIP_STORED
                    stored.write(path, inside, kind)
            write_parts(archive, f"packed/{name}/{order:03}.zip", folder, PART_BYTES)

    def add_run(self, run_dir: Path) -> None:
        """Put in what a run left: best weights, scores, profile, and its newest checkpoint if that is small enough."""
        from cutray.training.profile import PAGE_FILE

        names = ("best.toml", "history.json", "settings.json", "best.safetensors")
        files = {name: run_dir / name for name in names}
        files |= {file.name: file for file in (run_dir / "profile").glob(PAGE_FILE)}
        newest = sorted(run_dir.glob("checkpoint_[0-9]*"))[-1]
        kept = sorted(newest.iterdir())
        if sum(file.stat().st_size for file in kept) <= _LARGEST_CHECKPOINT:
            self.add(run_dir.name, files | {f"{newest.name}/{file.name}": file for file in kept})
            return
        with tempfile.TemporaryDirectory() as scratch:
            halved = Path(scratch) / "best.safetensors"
            _halve(files["best.safetensors"], halved)
            self.add(run_dir.name, files | {"best.safetensors": halved})

    def add_trace(self, run_dir: Path) -> None:
        """Put in the trace of a run's first steps, if there is one; tens of megabytes, a tenth of that packed."""
        from cutray.training.profile import TRACE_FILE

        trace = run_dir / "profile" / TRACE_FILE
        if trace.is_file():
            self.add(f"{run_dir.name}-trace", {TRACE_FILE: trace})

    def send(self, output: Path) -> int:
        """Move the next parts into a folder whose files come back; return how many wait for another call."""
        output.mkdir(parents=True, exist_ok=True)
        waiting, taken = sorted(self._folder.rglob("*.part")), 0
        for number, part in enumerate(waiting):
            taken += part.stat().st_size
            if number == _FILES or taken > _BYTES:
                return len(waiting) - number
            shutil.move(part, output / part.name)
        return 0


def _halve(source: Path, target: Path) -> None:
    """Write weights in half precision; batch statistics and counters stay as they are."""
    import torch
    from safetensors.torch import load_file, save_file

    state = {
        name: value.half() if value.dtype == torch.float32 and "running" not in name else value
        for name, value in load_file(source).items()
    }
    save_file(state, target)
