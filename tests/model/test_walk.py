"""Who follows a photo through the code opens few files and seldom comes back to one: the chain is linear."""

from __future__ import annotations

import os
import threading
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import cutray
from cutray.cli import cli
from cutray.console.run import run
from tests.conftest import require_weights

_ROOT = str(Path(cutray.__file__).parent)
_START = "remove_one"  # what `cutray remove` calls for each photo
# Smaller arrays and texts are settings and sizes, not the photo.
_LEAST = 64


def _holds_photo(value: Any, photo: Path, depth: int = 1) -> bool:
    """Tell whether a value is the photo's path, its bytes or pixels, or one of our objects that holds them."""
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value) > _LEAST
    if isinstance(value, np.ndarray):
        return value.size > _LEAST
    if isinstance(value, os.PathLike):
        return Path(value) == photo
    if isinstance(value, list | tuple):
        return any(_holds_photo(one, photo, depth) for one in value[:4])
    if not depth or not type(value).__module__.startswith("cutray") or type(value).__name__.endswith("Settings"):
        return False
    names = getattr(type(value), "__slots__", ()) or getattr(value, "__dict__", ())
    return any(_holds_photo(getattr(value, name, None), photo, depth - 1) for name in names)


def walk_of(photo: Path, output: Path, *options: str) -> list[str]:
    """Return the files in which a reader is, in order: each function that is handed the photo, at its first call."""
    walk: list[str] = []
    seen: set[tuple[str, str]] = set()
    running = False

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal running
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_ROOT):
            return
        running = running or code.co_name == _START
        key = code.co_filename, code.co_name
        if not running or key in seen or code.co_name.startswith("<"):
            return
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(_holds_photo(frame.f_locals.get(name), photo) for name in arguments):
            seen.add(key)
            walk.append(os.path.relpath(code.co_filename, _ROOT))

    threading.setprofile(note)  # the photo is worked on in a thread, so that the next one can be read meanwhile
    try:
        assert run(cli, ["remove", str(photo), "-o", str(output), "--model", "u2netp", "--offline", *options]) == 0
    finally:
        threading.setprofile(None)
    return [file for file, _ in groupby(walk)]


def test_a_photo_goes_straight_through_the_code(photo_files: Path, tmp_path: Path) -> None:
    """`cutray remove` with all defaults: at most 35 files, and at most 35 returns to a file already left.

    The engine is named, because the default one depends on the processor.
    """
    require_weights("u2netp")
    walk = walk_of(photo_files / "astronaut.jpg", tmp_path / "out.png", "--engine", "openvino")
    assert {"remover.py", "chain.py", "sources.py", "tta.py", "render.py"} <= set(walk)
    assert walk.index("sources.py") < walk.index("tta.py") < walk.index("matting/matte.py") < walk.index("render.py")
    assert len(set(walk)) <= 35, walk
    assert len(walk) - len(set(walk)) <= 35, walk
