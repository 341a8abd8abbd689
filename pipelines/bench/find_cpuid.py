"""Finds the instructions CPUID in a library. Runs by itself, without the rest of this package: ``LIBRARY OUTPUT``."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

_CPUID = b"\x0f\xa2"
# Instructions are read from here on before each place that may be one. Wherever reading begins, it falls into step with
# the code after a few instructions; the longest takes 15 bytes.
_READ_BEFORE = 256
_NOP = b"\x90"
_PROGRAM_DATA, _EXECUTABLE = 1, 4


def find_cpuid(library: Path) -> list[int]:
    """Return the addresses of the instructions CPUID in an ELF file for x86-64, as it is linked, in order.

    The two bytes of CPUID are within other instructions, too, so ``objdump`` reads what comes before them.

    Raises:
        FileNotFoundError: There is no ``objdump``.
        subprocess.CalledProcessError: It cannot read the code.
    """
    data = library.read_bytes()
    if not data.startswith(b"\x7fELF"):
        return []
    code, address_of = bytearray(), {}
    for start, size, address in _executable_parts(data):
        for place in re.finditer(re.escape(_CPUID), data[start : start + size]):
            at = start + place.start()
            first = max(start, at - _READ_BEFORE)
            address_of[len(code) + at - first] = address + place.start()
            code += data[first : at + len(_CPUID)] + 16 * _NOP
    return [address_of[at] for at in _read_code(bytes(code)) if at in address_of] if code else []


def _executable_parts(data: bytes) -> list[tuple[int, int, int]]:
    """Return offset, size and address of what is code in an ELF file for 64 bits, by its table of sections.

    What is loaded as code holds more in some files, such as tables of symbols and numbers.

    Source: ELF-64 Object File Format, version 1.5, tables 3, 8 and 10.
    """
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    parts = []
    for number in range(count):
        _, kind, flags, address, offset, length = struct.unpack_from("<IIQQQQ", data, table + number * size)
        if kind == _PROGRAM_DATA and flags & _EXECUTABLE:
            parts.append((offset, length, address))
    return parts


def _read_code(code: bytes) -> list[int]:
    """Return where ``objdump`` sees CPUID in plain machine code."""
    with NamedTemporaryFile(suffix=".bin") as file:
        file.write(code)
        file.flush()
        command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(line[1], 16) for line in re.finditer(r"^\s*([0-9a-f]+):\s*cpuid\s*$", text, re.MULTILINE)]


if __name__ == "__main__":
    found, output = find_cpuid(Path(sys.argv[1])), Path(sys.argv[2])
    # Two programs may look through one library at a time; each finds a whole file or none.
    unfinished = output.with_name(f"{output.name}.{os.getpid()}")
    unfinished.write_text("".join(f"{address:x}\n" for address in found))
    unfinished.replace(output)
