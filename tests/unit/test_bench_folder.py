"""The folder benchmark makes the same photos every time and sees what a program holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.bench.memory import memory_beside, memory_of_tree, run_watched
from pipelines.bench.photos import mixed_photos

pytest.importorskip("psutil")
pytest.importorskip("skimage", reason="the module of the samples")
_HOLD = "x = bytearray(b'x' * (200 << 20)); import time; time.sleep(2.5); print('held')"


def test_photos_are_the_same_every_time(tmp_path: Path) -> None:
    """Sizes stay within the range, kinds are mixed, and a small set is the beginning of a large one."""
    sources, few, more = (tmp_path / name for name in ("sources", "few", "more"))
    for folder in (sources, few, more):
        folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(noise).resize((200, 150)).save(sources / "a.png")
    mixed_photos(sources, 2, few)
    facts = mixed_photos(sources, 8, more)
    for path in few.iterdir():
        assert path.read_bytes() == (more / path.name).read_bytes()
    sizes = [np.prod(Image.open(path).size) / 1e6 for path in more.iterdir()]
    assert all(0.19 < size < 12.1 for size in sizes)
    assert facts["mean_mp"] == pytest.approx(np.mean(sizes), rel=0.01)
    assert facts["bytes"] == sum(path.stat().st_size for path in more.iterdir())


def test_memory_of_children_is_seen() -> None:
    """The peak covers what a child of a child holds, and output and exit code come back."""
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOLD!r}]); sys.exit(3)"
    run = run_watched([sys.executable, "-c", command], os.environ, look_every_s=0.3)
    assert run.returncode == 3
    assert run.stdout == "held\n"
    assert run.peak_bytes > 200 << 20
    assert run.seconds > 1.5


def test_memory_is_watched_beside() -> None:
    """A process of its own sees what another one takes and gives back meanwhile."""
    command = f"input(); {_HOLD}; x = None; print('given back', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        with memory_beside(holder.pid) as memory:
            holder.stdin.write(b"begin\n")
            holder.stdin.flush()
            while b"given back" not in holder.stdout.readline():
                pass
        holder.kill()
    assert memory.peak_bytes > 200 << 20


def test_memory_of_nobody_is_none() -> None:
    """A process that has ended holds nothing."""
    assert memory_of_tree(2**22 - 1) == 0
