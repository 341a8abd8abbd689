"""Runs a command as on a processor with fewer vector instructions, rembg and every library in it included."""

from __future__ import annotations

import hashlib
import os
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
# The C library has looked at the processor before the preloaded one can run.
_WITHOUT_AVX512 = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD"


@click.command("capped", context_settings={"ignore_unknown_options": True})
@click.argument("instructions", type=click.Choice(CAPS, case_sensitive=False))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def capped(instructions: str, command: Sequence[str]) -> None:
    """Run COMMAND as on a processor that has no more than INSTRUCTIONS.

    Every library in it takes the processor for a lesser one, and so does every process that it starts: OpenVINO, ONNX
    Runtime and with it rembg, OpenCV, NumPy. Needs Linux, a processor whose CPUID can be made to fault (Intel since
    2012, AMD since Zen 4; also in most virtual machines) and a C compiler.

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
        EngineUnavailableError: The processor cannot hide instructions, or there is no C compiler.
    """
    if "cpuid_fault" not in read_cpu()[1]:  # a flag that Linux alone has, on x86-64
        raise EngineUnavailableError(
            got="this processor cannot hide its instructions",
            allowed="Linux on x86-64, with cpuid_fault among the flags of /proc/cpuinfo",
            fix="ONEDNN_MAX_CPU_ISA=AVX2 caps OpenVINO alone",
        )
    library = build_library()
    return {
        **environment,
        CAP_VARIABLE: instructions,
        "ONEDNN_MAX_CPU_ISA": instructions,
        "LD_PRELOAD": ":".join(filter(None, [str(library), environment.get("LD_PRELOAD")])),
        **({"GLIBC_TUNABLES": _WITHOUT_AVX512} if instructions.startswith("AVX2") else {}),
    }


def build_library() -> Path:
    """Compile the library that is preloaded, once; return its path in the cache."""
    path = cache_dir() / "bench" / f"capped-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"
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
