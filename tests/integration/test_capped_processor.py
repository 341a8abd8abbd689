"""A processor that seems to have fewer instructions: what programs under `cutray bench capped` see of it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from cutray.engines.hardware import read_cpu
from cutray.engines.instruction_sets import cap_flags
from cutray.errors import EngineUnavailableError
from pipelines.bench import capped as module
from pipelines.bench.capped import CAPS, capped_environment
from pipelines.bench.find_cpuid import find_cpuid

FLAGS = read_cpu()[1]
can_hide = pytest.mark.skipif(
    sys.platform != "linux"
    or platform.machine() != "x86_64"
    or shutil.which("cc") is None
    or shutil.which("objdump") is None,
    reason="needs Linux on x86-64, a C compiler and objdump",
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


@pytest.fixture(params=["fault", "written over"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Hide instructions in each of the two ways, the first where this processor has it."""
    if request.param == "fault" and "cpuid_fault" not in FLAGS:
        pytest.skip("this processor's CPUID cannot be made to fault")
    if request.param == "written over":
        monkeypatch.setattr(module, "read_cpu", lambda: ("Any", FLAGS - {"cpuid_fault"}))
    return str(request.param)


def _run(code: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@can_hide
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("instructions", CAPS)
def test_programs_see_a_lesser_processor(instructions: str) -> None:
    """AVX2 stays under all caps; AVX-512 and VNNI where the cap's name has them."""
    done = _run(SEEN, capped_environment(instructions, os.environ))
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
    assert found["doctor"].endswith(" (capped)") == (cap_flags(FLAGS, {"ONEDNN_MAX_CPU_ISA": instructions}) != FLAGS)


@can_hide
def test_the_command_hides_them_from_what_it_runs() -> None:
    """`cutray bench capped AVX2 COMMAND` is the whole call."""
    command = [sys.executable, "-m", "cutray", "bench", "capped", "AVX2", "--", sys.executable, "-c", SEEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "AVX512-SKX?" in json.loads(done.stdout)["process"]


# Memory that is no code, and an instruction that there is not: what each ends a program with.
CRASHES = {
    -11: "import ctypes; ctypes.string_at(8)",
    -4: (
        "import ctypes, mmap; code = mmap.mmap(-1, 4096, prot=7); code.write(bytes.fromhex('0f0b'));"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()"
    ),
}
TOLD = {-11: "Segmentation fault", -4: "Illegal instruction"}


@can_hide
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("ends_with", CRASHES)
def test_a_program_that_crashes_still_crashes(ends_with: int) -> None:
    """The handler that hides instructions leaves every other failure to the program, and signals that others send."""
    environment = capped_environment("AVX2", os.environ)
    assert _run(CRASHES[ends_with], environment).returncode == ends_with
    told = _run(f"import faulthandler; faulthandler.enable(); {CRASHES[ends_with]}", environment)
    assert told.returncode == ends_with
    assert TOLD[ends_with] in told.stderr
    assert _run(f"import os; os.kill(os.getpid(), {-ends_with})", environment).returncode == ends_with


@can_hide
def test_cpuid_is_told_from_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    """Its two bytes are also part of numbers; only the instruction itself is written over."""
    source, library = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text(
        "int number(void) { return 0x0ba20f0c; }"
        'void ask(void) { __asm__ volatile("mov $0xa20f, %%eax; here: .globl here; cpuid"'
        ' ::: "eax", "ebx", "ecx", "edx"); }'
    )
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    assert library.read_bytes().count(b"\x0f\xa2") >= 3
    symbols = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    [here] = [line.split()[0] for line in symbols.splitlines() if line.endswith(" here")]
    assert find_cpuid(library) == [int(here, 16)]
    assert find_cpuid(source) == []


@can_hide
def test_numbers_beside_the_code_are_left_alone(tmp_path: Path) -> None:
    """Some libraries load their tables of symbols and numbers together with their code."""
    source, library = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text("const unsigned char table[] = {0x90, 0x0f, 0xa2, 0x90}; int number(void) { return 1; }")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-z,noseparate-code", "-o", library, source], check=True)
    assert b"\x90\x0f\xa2\x90" in library.read_bytes()
    assert find_cpuid(library) == []


ASK = r"""
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
int main(void) {
    unsigned a, b, c, d;
    signal(SIGILL, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    __cpuid_count(7, 0, a, b, c, d);
    puts(b & bit_AVX512F ? "wide" : "narrow");
}
"""


@can_hide
@pytest.mark.usefixtures("way")
def test_a_program_without_libraries_is_capped(tmp_path: Path) -> None:
    """It asks the processor itself, and wants to handle crashes in its own way."""
    (tmp_path / "ask.c").write_text(ASK)
    subprocess.run(["cc", "-O1", "-o", tmp_path / "ask", tmp_path / "ask.c"], check=True)
    ask = partial(subprocess.run, [tmp_path / "ask"], capture_output=True, text=True, check=True)
    assert ask().stdout == ("wide\n" if "avx512f" in FLAGS else "narrow\n")
    assert ask(env=capped_environment("AVX2", os.environ)).stdout == "narrow\n"


@can_hide
def test_a_cache_that_cannot_be_preloaded_from_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The linker splits its lists of libraries at spaces, and leaves out what it does not find."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "My Disk"))
    with pytest.raises(EngineUnavailableError, match="has a space"):
        capped_environment("AVX2", os.environ)


@can_hide
def test_a_library_that_cannot_be_looked_through_ends_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not a run that seems to be capped and is not."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    monkeypatch.setattr(module, "read_cpu", lambda: ("Any", frozenset()))
    monkeypatch.setattr(module, "_FINDER", Path(module.__file__))
    done = _run("print('ran')", capped_environment("AVX2", os.environ))
    assert (done.returncode, done.stdout) == (127, "")
    assert "CPUID could not be found" in done.stderr


@can_hide
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


def test_a_system_that_cannot_hide_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a run that seems to be capped and is not."""
    monkeypatch.setattr(module.sys, "platform", "darwin")
    with pytest.raises(EngineUnavailableError, match="cannot hide"):
        capped_environment("AVX2", os.environ)


@can_hide
def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library is compiled once; before that a compiler is needed."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailableError, match="no C compiler"):
        capped_environment("AVX2", os.environ)


@can_hide
def test_without_objdump_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is needed where CPUID does not fault, to find the instruction in libraries."""
    module.build_library()
    monkeypatch.setattr(module, "read_cpu", lambda: ("Any", frozenset()))
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(EngineUnavailableError, match="no objdump"):
        capped_environment("AVX2", os.environ)
