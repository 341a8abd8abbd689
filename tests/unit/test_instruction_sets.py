"""What a processor's flags mean, and what is left of them under oneDNN's cap."""

from __future__ import annotations

import pytest

from cutray.engines.hardware import inspect_hardware
from cutray.engines.instruction_sets import cap_flags, name_instruction_set

LAPTOP = frozenset({"sse4_2", "avx", "avx2", "fma"})
ALDER_LAKE = LAPTOP | {"avx_vnni"}
SKYLAKE = LAPTOP | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
ZEN4 = SKYLAKE | {"avx512_vnni", "avx512_bf16"}
SAPPHIRE = ZEN4 | {"avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


@pytest.mark.parametrize(
    ("flags", "cap", "expected"),
    [
        (frozenset({"sse2"}), "", "unknown"),
        (LAPTOP, "", "AVX2"),
        (ALDER_LAKE, "", "AVX2 with VNNI"),
        (SKYLAKE, "", "AVX512"),
        (ZEN4, "", "AVX512 with VNNI"),
        (SAPPHIRE, "", "AMX"),
        (SAPPHIRE, "DEFAULT", "AMX"),
        (SAPPHIRE, "AVX512_CORE_BF16", "AVX512 with VNNI"),
        (SAPPHIRE, "avx512_core", "AVX512"),
        (SAPPHIRE, "AVX2_VNNI", "AVX2 with VNNI"),
        (SAPPHIRE, "AVX2", "AVX2"),
        (LAPTOP, "AVX512_CORE", "AVX2"),
    ],
)
def test_best_set_within_the_cap(flags: frozenset[str], cap: str, expected: str) -> None:
    """The cap takes away and never adds; a value that means no cap changes nothing."""
    assert name_instruction_set(cap_flags(flags, {"ONEDNN_MAX_CPU_ISA": cap}), arm=False) == expected
    assert cap_flags(flags, {"DNNL_MAX_CPU_ISA": cap}) == cap_flags(flags, {"ONEDNN_MAX_CPU_ISA": cap})


def test_capped_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the cap no engine is chosen for what it forbids, and the name of the set tells of it."""
    full = inspect_hardware()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    capped = inspect_hardware()
    assert not (capped.computes_in_bf16 or capped.avx512_vnni or capped.amx_int8) or capped.instruction_set == "Arm"
    assert capped.capped == (full.instruction_set not in ("AVX2", "Arm", "unknown"))
    assert capped.used_instruction_set.endswith(" (capped)") == capped.capped
