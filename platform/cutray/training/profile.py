"""Profiles some steps of a run: what they wait for, which kernels take the time, and how far from the peak they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutray.imaging.files import write_atomically
from cutray.training.measure import matrix_product

# Steps that are left out because libraries still choose their kernels, and those that are recorded.
SKIPPED_STEPS, RECORDED_STEPS = 5, 10
_TOP = 20
# A backward pass does about twice the work of the forward pass.
_PASSES = 3
TRACE_FILE, PAGE_FILE = "trace.json", "profile.md"


class StepProfile:
    """Watches the first steps of a run, then writes a trace and a page, and from then on costs nothing."""

    def __init__(self, folder: Path, device: torch.device, model: Any) -> None:
        """Begin.

        Args:
            folder: Where the trace (for chrome://tracing or Perfetto) and the page go.
            device: Where the run computes.
            model: What is trained.
        """
        self._folder, self._device, self._model = folder, device, model
        self._steps, self._waited, self._began, self._samples = 0, 0.0, 0.0, 0
        self._profiler: Any = None
        self._image: Tensor | None = None

    def watch(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Hand batches on, and note how long each was waited for."""
        source = iter(batches)
        while True:
            started = time.perf_counter()
            batch = next(source, None)
            if self._profiler is not None:
                self._waited += time.perf_counter() - started
            if batch is None:
                break
            yield batch
            self._after_step(batch["image"])
        if self._profiler is not None:  # the epoch was shorter
            self._finish()

    def _after_step(self, image: Tensor) -> None:
        """Count a step; begin or end the recording."""
        self._steps += 1
        if self._steps == SKIPPED_STEPS:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            kinds += [torch.profiler.ProfilerActivity.CUDA] if self._device.type == "cuda" else []
            self._image = image
            self._profiler = torch.profiler.profile(activities=kinds)
            self._wait()
            self._profiler.start()
            self._began = time.perf_counter()
        elif self._profiler is not None:
            self._samples += len(image)
            if self._steps == SKIPPED_STEPS + RECORDED_STEPS:
                self._finish()

    def _wait(self) -> None:
        """Wait until the device has done all that is queued."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _finish(self) -> None:
        """End the recording and write what it shows."""
        self._wait()
        wall = time.perf_counter() - self._began
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self._folder / TRACE_FILE))
        write_atomically(self._folder / PAGE_FILE, self._page(profiler.key_averages(), wall).encode(), overwrite=True)

    def _page(self, events: Any, wall: float) -> str:
        """Sum up a recording."""
        on_gpu = self._device.type == "cuda"
        times = {one.key: float(one.self_device_time_total if on_gpu else one.self_cpu_time_total) for one in events}
        calls = {one.key: one.count for one in events}
        busy = sum(times.values()) / 1e6
        peak = matrix_product(self._device, 8192 if on_gpu else 512)
        done = self._operations() * self._samples / max(wall, 1e-9) / 1e12
        lines = [
            "# Profile of training steps",
            "",
            f"{self._samples} photos in {wall:.2f} s: {self._samples / wall:.1f} per second.",
            "",
            "| what | share of the time |",
            "|---|--:|",
            f"| waiting for data | {100 * self._waited / wall:.1f} % |",
            f"| {'kernels on the GPU' if on_gpu else 'operations, all threads'} | {100 * busy / wall:.1f} % |",
            "",
            f"About {done:.3g} TFLOP/s, {100 * done / peak:.2g} % of a product of matrices in bf16 here ({peak:.3g}).",
            "",
            "| kernel | ms | share | calls |",
            "|---|--:|--:|--:|",
        ]
        top = sorted(times, key=lambda key: -times[key])[:_TOP]
        for key in top:
            name = key[:90].replace("|", " ")
            lines.append(f"| `{name}` | {times[key] / 1e3:.1f} | {times[key] / 1e4 / busy:.1f} % | {calls[key]} |")
        return "\n".join(lines) + "\n"

    def _operations(self) -> float:
        """Count the operations of one photo, two for a product with a sum, forward and backward."""
        from torch.utils.flop_counter import FlopCounterMode

        if self._image is None:
            return 0.0
        # One by one: a frozen encoder stays in evaluation mode while the rest is trained.
        modes = {module: module.training for module in self._model.modules()}
        self._model.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self._model(self._image[:1].float())
        for module, training in modes.items():
            module.training = training
        return float(_PASSES * counter.get_total_flops())
