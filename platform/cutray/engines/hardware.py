"""What this machine offers to an engine, found out without loading any of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from cutray.engines.instruction_sets import cap_flags, name_instruction_set

_PACKAGES = ("openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch", "onnx", "MNN")


@dataclass(frozen=True, slots=True)
class Hardware:
    """Processor, GPUs and installed engines.

    ``cores`` are those this process may use, within its affinity and its container's quota. ``packages`` maps
    the name of an installed engine's package to its version. ``both_onnxruntimes``: the packages onnxruntime and
    onnxruntime-gpu overwrite each other's files, so that the GPU may be out of reach. ``capped``: the processor has
    more than ``instruction_set`` and the flags say, but ``ONEDNN_MAX_CPU_ISA`` forbids to use it.
    """

    cores: int
    cpu_name: str = "unknown"
    instruction_set: str = "unknown"
    capped: bool = False
    amx_bf16: bool = False
    avx512_bf16: bool = False
    avx512_vnni: bool = False
    avx_vnni: bool = False
    amx_int8: bool = False
    arm_bf16: bool = False
    cuda_gpus: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    both_onnxruntimes: bool = False

    @property
    def used_instruction_set(self) -> str:
        """Name of the instruction set, saying so if it is less than the processor has."""
        return f"{self.instruction_set} (capped)" if self.capped else self.instruction_set

    @property
    def computes_in_bf16(self) -> bool:
        """Whether the processor has instructions for bfloat16."""
        return self.amx_bf16 or self.avx512_bf16 or self.arm_bf16

    @property
    def computes_in_int8(self) -> bool:
        """Whether OpenVINO computes faster in 8-bit integers here than in floating point, and as exactly."""
        vectors = self.instruction_set in ("AVX2", "AVX512")  # without VNNI: see docs/decisions/int8.md
        return vectors or self.avx512_vnni or self.avx_vnni or self.amx_int8


def inspect_hardware() -> Hardware:
    """Look at the processor, the GPUs and the installed packages; takes some milliseconds."""
    name, all_flags = read_cpu()
    flags = cap_flags(all_flags, os.environ)
    packages = list_packages()
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return Hardware(
        cores=usable_cores(),
        cpu_name=name,
        instruction_set=name_instruction_set(flags, arm=arm),
        capped=flags != all_flags,
        amx_bf16="amx_bf16" in flags and "amx_tile" in flags,
        avx512_bf16="avx512_bf16" in flags,
        avx512_vnni="avx512_vnni" in flags,
        avx_vnni="avx_vnni" in flags,
        amx_int8="amx_int8" in flags and "amx_tile" in flags,
        arm_bf16=arm and "bf16" in flags,
        cuda_gpus=list_cuda_gpus(os.environ.get("CUDA_VISIBLE_DEVICES")),
        packages=packages,
        both_onnxruntimes="onnxruntime" in packages and "onnxruntime-gpu" in packages,
    )


def list_packages() -> dict[str, str]:
    """Return the versions of the installed engines' packages, without importing them."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy: its affinity, cut by the quotas of its control groups.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A partial core is rounded down: one thread too many is stopped by the kernel in the middle of its work.
    return max(1, min([cores, *(int(quota) for quota in _read_quotas(root))]))


def _read_quotas(root: Path) -> list[float]:
    """Return the limits, in cores, of the process's control group and all above it, versions 1 and 2."""
    quotas = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                base = root / "sys/fs/cgroup"
            elif "cpu" in controllers.split(","):
                base = root / "sys/fs/cgroup/cpu"
            else:
                continue
            # Inside a container the path may be the host's, which is not mounted: the root of the mount counts.
            folder = base / group.strip("/")
            while folder.is_relative_to(base):
                quotas.append(_read_quota(folder))
                folder = folder.parent
    return [quota for quota in quotas if quota]


def _read_quota(folder: Path) -> float:
    """Return one control group's limit in cores, or 0 for none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return float(quota) / float(period) if quota != "max" else 0.0
    with contextlib.suppress(OSError, ValueError):
        quota_us = float((folder / "cpu.cfs_quota_us").read_text())
        return max(0.0, quota_us / float((folder / "cpu.cfs_period_us").read_text()))
    return 0.0


def available_bytes() -> int:
    """Return the memory that is free on this machine, or left to this container."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = _free_bytes_without_proc()
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def _free_bytes_without_proc() -> int:
    """Return the memory that is free on Windows, and half of all memory on other systems without /proc."""
    if sys.platform != "win32":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    # The structure MEMORYSTATUSEX: its own size, the load in percent, then seven sizes in bytes.
    status = struct.pack("<II7Q", struct.calcsize("<II7Q"), *[0] * 8)
    buffer = ctypes.create_string_buffer(status, len(status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(buffer):
        raise OSError("Windows does not say how much memory is free")
    return int(struct.unpack("<II7Q", buffer.raw)[3])


def read_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, frozenset[str]]:
    """Return the processor's name and the names of its instruction sets, as Linux calls them.

    Args:
        cpuinfo: Linux's description of the processors.
    """
    if sys.platform == "darwin":
        return _read_apple_processor()
    name, flags = platform.processor() or platform.machine() or "unknown", frozenset[str]()
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                return name, frozenset(value.split())
    return name, flags


def _read_apple_processor() -> tuple[str, frozenset[str]]:
    """Ask macOS for its processor's name and whether it computes in bfloat16."""
    query = ["sysctl", "-n", "machdep.cpu.brand_string", "hw.optional.arm.FEAT_BF16"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=False).stdout.splitlines()
        return answer[0] if answer else "Apple", frozenset(["bf16"] if answer[1:] == ["1"] else [])
    return "Apple", frozenset()


def list_cuda_gpus(visible: str | None) -> tuple[str, ...]:
    """Return the names of the NVIDIA GPUs that this process may use, as the driver tells them.

    Args:
        visible: Value of ``CUDA_VISIBLE_DEVICES``, or None for no restriction.
    """
    if visible is not None and visible.strip() in ("", "-1", "none", "void", "NoDevFiles"):
        return ()
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return ()
    except (OSError, AttributeError):
        return ()
    try:
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        names = tuple(_read_gpu_name(library, index) for index in range(count.value))
    finally:
        library.nvmlShutdown()
    chosen = visible.split(",") if visible is not None else []
    if chosen and all(entry.strip().isdigit() for entry in chosen):
        return tuple(names[int(entry)] for entry in chosen if int(entry) < len(names))
    return names[: len(chosen)] if chosen else names


def _read_gpu_name(library: ctypes.CDLL, index: int) -> str:
    """Ask the driver for one GPU's name."""
    handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
    library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    library.nvmlDeviceGetName(handle, text, len(text))
    return text.value.decode(errors="replace") or "NVIDIA GPU"
