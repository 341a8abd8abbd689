"""Runs a command as on a processor with fewer vector instructions, rembg and every library in it included."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from cutray.engines.hardware import read_cpu
from cutray.errors import EngineUnavailableError
from cutray.imaging.files import write_atomically
from cutray.models.weights import cache_dir

CAPS = ("AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
# Tells the preloaded library what to leave out, and the pages that nothing knows of more.
CAP_VARIABLE = "CUTRAY_CPU_CAP"
_SOURCE = Path(__file__).with_name("capped.c")
_FINDER = Path(__file__).with_name("find_cpuid.py")
# The C library has looked at the processor before the preloaded one can run.
_WITHOUT_AVX512 = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD"


@click.command("capped", context_settings={"ignore_unknown_options": True})
@click.argument("instructions", type=click.Choice(CAPS, case_sensitive=False))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def capped(instructions: str, command: Sequence[str]) -> None:
    """Run COMMAND as on a processor that has no more than INSTRUCTIONS.

    Every library in it takes the processor for a lesser one, and so does every process that it starts: OpenVINO, ONNX
    Runtime and with it rembg, OpenCV, NumPy. Needs Linux on x86-64 and a C compiler; on a processor whose CPUID cannot
    be made to fault (most of AMD's) also objdump, which comes with the compiler.

    \b
    cutray bench capped AVX2 make bench              the pages *.avx2-capped.md
    cutray bench capped AVX2 cutray doctor
    cutray bench capped AVX2_VNNI cutray bench       as laptops from Intel since 2022
    cutray bench capped AVX512_CORE cutray bench     AVX-512 without VNNI
    """
    environment = capped_environment(instructions, os.environ)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606, the command is the user's own
    except OSError as error:
        raise click.UsageError(f"{command[0]} cannot be run: {error.strerror}") from error


def capped_environment(instructions: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which programs see no more of the processor than some instructions.

    Args:
        instructions: One of ``CAPS``, as oneDNN calls them.
        environment: What to start from.

    Raises:
        EngineUnavailableError: This is not Linux on x86-64, or there is no C compiler or objdump.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise EngineUnavailableError(
            got=f"{sys.platform} on {platform.machine()} cannot hide a processor's instructions",
            allowed="Linux on x86-64",
            fix="measure on a machine that has no more than these instructions",
        )
    library = str(build_library())
    faults = "cpuid_fault" in read_cpu()[1]
    if set(" :") & set(library):
        raise EngineUnavailableError(
            got=f"the cache {str(cache_dir())!r} has a space or a colon in its path",
            allowed="a path without them, because LD_PRELOAD is split there",
            fix="name another folder with CUTRAY_HOME",
        )
    return {
        **environment,
        CAP_VARIABLE: instructions,
        "ONEDNN_MAX_CPU_ISA": instructions,
        "LD_PRELOAD": _before(library, environment.get("LD_PRELOAD")),
        **({"GLIBC_TUNABLES": _WITHOUT_AVX512} if instructions.startswith("AVX2") else {}),
        **({} if faults else {"LD_AUDIT": _before(library, environment.get("LD_AUDIT")), **_finder()}),
    }


def _before(library: str, others: str | None) -> str:
    return f"{library}:{others}" if others else library


def _finder() -> dict[str, str]:
    """Return what the library needs where CPUID does not fault: what finds it, and where to keep what was found."""
    if shutil.which("objdump") is None:
        raise EngineUnavailableError(got="no objdump was found", allowed="that of GNU binutils", fix="install binutils")
    # Another version finds other instructions.
    folder = cache_dir() / "bench" / f"cpuid-{_hash(_SOURCE, _FINDER)}"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "CUTRAY_CPUID_PYTHON": sys.executable,
        "CUTRAY_CPUID_FINDER": str(_FINDER),
        "CUTRAY_CPUID_FOLDER": str(folder),
    }


def _hash(*sources: Path) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def build_library() -> Path:
    """Compile the library that is preloaded, once; return its path in the cache."""
    path = cache_dir() / "bench" / f"capped-{_hash(_SOURCE)}.so"
    if not path.is_file():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise EngineUnavailableError(got="no C compiler was found", allowed="cc, gcc or clang", fix="install gcc")
        with TemporaryDirectory() as folder:
            built = Path(folder) / path.name
            command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(_SOURCE), "-ldl"]
            made = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if made.returncode:
                raise EngineUnavailableError(
                    got=f"{compiler} cannot compile {_SOURCE.name}: {made.stderr.strip()}",
                    fix="install the C library's headers",
                )
            write_atomically(path, built.read_bytes(), overwrite=True)
    return path
