"""An engine that looks up what it has seen before."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import Engine
from cutray.imaging.files import write_atomically


class CachedEngine:
    """Keeps the network's maps in files: trials that differ only in what comes after need not run it again."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        """Wrap an engine.

        Args:
            engine: What runs the network when a map is not known yet.
            folder: Where the maps of this network are.
        """
        self._engine, self._folder = engine, folder
        self.name, self.device = engine.name, engine.device
        self.precision, self.threads = engine.precision, engine.threads

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Look each map up, and run the network on what is missing; see ``Engine.infer``."""
        return np.concatenate([self._map_of(one[None]) for one in batch])

    def _map_of(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read or make one map."""
        digest = hashlib.sha256(f"{self.name} {self.precision}".encode() + np.ascontiguousarray(tensor).tobytes())
        path = self._folder / f"{digest.hexdigest()[:32]}.f32"
        if path.is_file():
            return np.frombuffer(path.read_bytes(), np.float32).reshape(1, *tensor.shape[2:])
        found = self._engine.infer(tensor)
        write_atomically(path, found.tobytes(), overwrite=True)
        return found
