"""Names of the vector instruction sets that decide how fast a processor runs a network."""

from __future__ import annotations

from collections.abc import Mapping

_BF16 = frozenset({"avx512_bf16"})
_AMX = frozenset({"amx_tile", "amx_int8", "amx_bf16"})
_VNNI = frozenset({"avx512_vnni"})
_AVX_VNNI = frozenset({"avx_vnni"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
# What each value of oneDNN's variable leaves of a processor. Source: oneDNN, "CPU Dispatcher Control".
_CAPS = {
    "SSE41": _BF16 | _AMX | _VNNI | _AVX_VNNI | _AVX512 | {"avx2"},
    "AVX": _BF16 | _AMX | _VNNI | _AVX_VNNI | _AVX512 | {"avx2"},
    "AVX2": _BF16 | _AMX | _VNNI | _AVX_VNNI | _AVX512,
    "AVX2_VNNI": _BF16 | _AMX | _VNNI | _AVX512,
    "AVX2_VNNI_2": _BF16 | _AMX | _VNNI | _AVX512,
    "AVX512_CORE": _BF16 | _AMX | _VNNI | _AVX_VNNI,
    "AVX512_CORE_VNNI": _BF16 | _AMX | _AVX_VNNI,
    "AVX512_CORE_BF16": _AMX | _AVX_VNNI,
    "AVX512_CORE_FP16": _AMX,
    "AVX10_1_512": _AMX,
}


def cap_flags(flags: frozenset[str], environment: Mapping[str, str]) -> frozenset[str]:
    """Leave out what oneDNN, and with it OpenVINO, is told not to use: a way to measure as on a lesser processor.

    Args:
        flags: The processor's instruction sets, as Linux calls them.
        environment: ``ONEDNN_MAX_CPU_ISA``, or its older name ``DNNL_MAX_CPU_ISA``, names the highest one.
    """
    cap = environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or ""
    return flags - _CAPS.get(cap.strip().upper(), frozenset())


def name_instruction_set(flags: frozenset[str], *, arm: bool) -> str:
    """Return the name of the best set: Arm, AMX, AVX512 with VNNI, AVX512, AVX2 with VNNI, AVX2 or unknown."""
    if arm:
        return "Arm"
    if "amx_tile" in flags and flags & {"amx_int8", "amx_bf16"}:
        return "AMX"
    if "avx512f" in flags:
        return "AVX512 with VNNI" if "avx512_vnni" in flags else "AVX512"
    if "avx2" in flags:
        return "AVX2 with VNNI" if "avx_vnni" in flags else "AVX2"
    return "unknown"
