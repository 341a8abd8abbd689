"""Remember which engine was measured to be the fastest here, for one model, until anything that matters changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from cutray.engines.hardware import Hardware

_log = logging.getLogger(__name__)
_FOLDER = "measured"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what a measurement holds: another processor, version, model or number of threads needs another one.

    Attributes:
        hardware: Processor and versions of the engines.
        threads: Threads of the network.
        sha256: Hash of the weights.
    """

    hardware: Hardware
    threads: int
    sha256: str

    def path(self, cache_dir: Path) -> Path:
        """Return the file of the winner; a different name for different conditions."""
        version = ""
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version("cutray")
        text = json.dumps([version, asdict(self)], sort_keys=True)
        return cache_dir / _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


@dataclass(frozen=True, slots=True)
class Winner:
    """The fastest engine, in which number format, and the day on which it was measured (YYYY-MM-DD)."""

    engine: str
    precision: str
    date: str


def read_winner(conditions: Conditions, cache_dir: Path) -> Winner | None:
    """Return what was measured under the same conditions; None if nothing was, or the file is damaged."""
    path = conditions.path(cache_dir)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        winner = Winner(**values)
        if all(isinstance(value, str) for value in values.values()):
            return winner
        problem = "its values are no text"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        problem = str(error)
    _log.warning("ignored %s, which is damaged (%s); `cutray doctor --measure` makes it anew", path, problem)
    return None


def keep_winner(winner: Winner, conditions: Conditions, cache_dir: Path) -> None:
    """Write the winner's file in one step.

    Raises:
        OSError: The cache cannot be written.
    """
    path = conditions.path(cache_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{secrets.token_hex(6)}.part")
    temporary.write_text(json.dumps(asdict(winner)), encoding="utf-8")
    os.replace(temporary, path)


def forget_winners(cache_dir: Path) -> int:
    """Remove the winners of all models, and return how many there were."""
    removed = 0
    for path in (cache_dir / _FOLDER).glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed += 1
    return removed
