"""A processor that seems to have fewer instructions: what programs under `cutray bench capped` see of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cutray.engines.hardware import read_cpu
from cutray.errors import EngineUnavailableError
from pipelines.bench import capped as module
from pipelines.bench.capped import CAPS, capped_environment

FLAGS = read_cpu()[1]
can_hide = pytest.mark.skipif(
    sys.platform != "linux" or "cpuid_fault" not in FLAGS or shutil.which("cc") is None,
    reason="needs Linux, a processor whose CPUID can be made to fault, and a C compiler",
)
# Libraries ask the processor when they are imported. Threads and processes that are started later see the same.
SEEN = """
import json, multiprocessing, threading
from numpy._core import _multiarray_umath as numpy
from cutray.engines.hardware import inspect_hardware
def see(*_):
    import cv2
    return cv2.getCPUFeaturesLine()
found = {"numpy": [numpy.__cpu_features__[name] for name in ("AVX2", "AVX512F", "AVX512VNNI")]}
with multiprocessing.get_context("fork").Pool(1) as pool:
    found["process"] = pool.map(see, [0])[0]
thread = threading.Thread(target=lambda: found.update(thread=see()))
thread.start(); thread.join()
found["doctor"] = inspect_hardware().used_instruction_set
print(json.dumps(found))
"""


def _run(code: str, instructions: str) -> subprocess.CompletedProcess[str]:
    """Run Python as on a lesser processor."""
    command = [sys.executable, "-m", "cutray", "bench", "capped", instructions, "--", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@can_hide
@pytest.mark.parametrize("instructions", CAPS)
def test_programs_see_a_lesser_processor(instructions: str) -> None:
    """AVX2 stays under all caps; AVX-512 and VNNI where the cap's name has them."""
    done = _run(SEEN, instructions)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wide = instructions.startswith("AVX512") and "avx512f" in FLAGS
    multiplies_bytes = instructions == "AVX512_CORE_VNNI" and "avx512_vnni" in FLAGS
    assert found["numpy"] == ["avx2" in FLAGS, wide, multiplies_bytes]
    # OpenCV puts a question mark behind what the processor has not.
    assert found["thread"] == found["process"]
    assert ("AVX512-SKX?" not in found["thread"]) == wide
    flag = {"AVX2_VNNI": "avx_vnni", "AVX512_CORE_VNNI": "avx512_vnni"}.get(instructions)
    assert ("VNNI" in found["doctor"]) == (flag in FLAGS)
    assert found["doctor"].endswith(" (capped)") or "avx512f" not in FLAGS


@can_hide
def test_a_program_that_crashes_still_crashes() -> None:
    """The handler that hides instructions leaves every other fault to the program."""
    crash = "import ctypes; ctypes.string_at(8)"
    assert _run(crash, "AVX2").returncode == -11
    told = _run(f"import faulthandler; faulthandler.enable(); {crash}", "AVX2")
    assert told.returncode == -11
    assert "Segmentation fault" in told.stderr


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_a_program_that_is_not_capped_handles_its_own_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child of a capped program may have an environment without the cap, and still the library in it."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    library = module.build_library()
    environment = {name: value for name, value in os.environ.items() if name != module.CAP_VARIABLE}
    crash = "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(8)"
    told = subprocess.run(
        [sys.executable, "-c", crash],
        env={**environment, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == -11
    assert "Segmentation fault" in told.stderr


def test_a_processor_that_cannot_hide_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a run that seems to be capped and is not."""
    monkeypatch.setattr(module, "read_cpu", lambda: ("Old", frozenset({"avx2"})))
    with pytest.raises(EngineUnavailableError, match="cannot hide"):
        capped_environment("AVX2", os.environ)


@can_hide
def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library is compiled once; before that a compiler is needed."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailableError, match="no C compiler"):
        capped_environment("AVX2", os.environ)
