"""Memory that is kept for the next photo: in effect where it can be, and not where the user has said how."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Touches 64 MB again and again, and counts how often the system had to find a page for it.
CODE = """
import resource, sys
import numpy as np
from cutray import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def touch():
    np.ones(16 << 20, np.float32)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")


def _run(argument: str, **variables: str) -> tuple[str, int]:
    """Run the code in a process of its own, whose memory nobody else has touched."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    # numpy asks for large pages, of which there would be few to find.
    environment |= {"NUMPY_MADVISE_HUGEPAGE": "0", **variables}
    done = subprocess.run(
        [sys.executable, "-c", CODE, argument], capture_output=True, text=True, check=True, env=environment
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@glibc
def test_kept_memory_is_not_asked_for_again() -> None:
    """Five arrays of 64 MB need 80,000 pages where memory goes back, and next to none where it is kept."""
    assert _run("leave")[1] > 50_000
    kept, faults = _run("keep")
    assert kept == "True"
    assert faults < 1_000


@glibc
@pytest.mark.parametrize("variables", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.check=0"}])
def test_what_the_user_has_set_stays(variables: dict[str, str]) -> None:
    """Whoever has set the C library's own variables has decided."""
    kept, faults = _run("keep", **variables)
    assert kept == "False"
    assert faults > 50_000


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such switch, nothing happens and nothing fails."""
    from cutray.freed_memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
