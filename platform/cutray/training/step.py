"""One step of training that never waits for the device: what it finds out stays there until somebody looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from cutray.config import OptimSettings
from cutray.errors import TrainingError
from cutray.training.averaging import ModelEma

_MAX_BAD_STEPS = 20
# Steps that run one by one before they are captured: libraries choose their kernels in them.
_WARM_UP_STEPS = 3
# Places in the counts that are kept on the device.
_LOSS, _GOOD, _BAD_NOW, _BAD_MOST = range(4)


class TrainStep:
    """Forward, backward, clipping, AdamW and moving average, all of it queued on the device.

    A step whose gradient is not finite is left out by the optimiser's own kernel, which reads a flag on the device.
    ``check`` looks at the counts, which makes the processor wait; every few steps is often enough.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: ModelEma,
        loss: Callable[[Tensor, Tensor], Tensor],
        settings: OptimSettings,
        device: torch.device,
        *,
        no_sync: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        capture: bool = False,
    ) -> None:
        """Build the optimiser.

        Args:
            model: What is trained.
            ema: The moving average of its weights.
            loss: Gives the loss of (N, 3, S, S) photos and their (N, 1, S, S) target.
            settings: How the weights are optimised.
            device: Where all of it is.
            no_sync: Keeps workers from sharing gradients that are not complete yet.
            capture: Replay a captured CUDA graph once a shape has been seen a few times. Ignored without a GPU.
        """
        self._ema, self._loss, self._settings, self._no_sync = ema, loss, settings, no_sync
        self._parameters = [one for one in model.parameters() if one.requires_grad]
        self._capture = capture and _captures_on(device)
        # A captured step cannot be told another rate but through a tensor that it reads.
        rate: Any = torch.tensor(settings.lr, device=device) if self._capture else settings.lr
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=rate, weight_decay=settings.weight_decay, fused=True, capturable=self._capture
        )
        # Without double precision, sums of an epoch's losses would lose their last digits.
        self._counts = torch.zeros(4, dtype=torch.float64, device=device)
        self._average_share = torch.zeros((), device=device)
        self._last = torch.zeros((), device=device)
        self._graphs: dict[torch.Size, tuple[Any, Tensor, Tensor]] = {}
        self._seen: dict[torch.Size, int] = {}

    def run(self, image: Tensor, alpha: Tensor, rate: float, number: int) -> None:
        """Queue one step; returns before it is done.

        Args:
            image: (N, 3, S, S) float32, normalised, on the device.
            alpha: (N, 1, S, S) float32 in [0, 1], on the device.
            rate: Learning rate.
            number: The step's number in the run, from 1.
        """
        for group in self.optimizer.param_groups:
            if self._capture:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._average_share.fill_(self._ema.share(number))
        if self._capture:
            self._run_captured(image, alpha)
        else:
            self._compute(image, alpha)

    def check(self) -> None:
        """Look whether training still makes sense; waits for the device.

        Raises:
            TrainingError: Twenty steps in a row had no finite gradient.
        """
        if float(self._counts[_BAD_MOST]) >= _MAX_BAD_STEPS:
            raise TrainingError(
                got=f"{_MAX_BAD_STEPS} steps in a row had no finite gradient",
                fix="lower optim.lr, or use precision fp32",
            )

    def last_loss(self) -> float:
        """Return the loss of the newest step; waits for the device."""
        return float(self._last)

    def take_mean_loss(self) -> float:
        """Return the mean loss of the finite steps since the last call; waits for the device."""
        total, good = self._counts[:_BAD_NOW].tolist()
        self._counts[:_BAD_NOW].zero_()
        return float(total / max(good, 1.0))

    def _compute(self, image: Tensor, alpha: Tensor) -> None:
        """Do a step, with nothing in it that depends on a value on the device."""
        parts = self._settings.accumulate
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros_like(self._last)
        for number, (photos, target) in enumerate(zip(image.chunk(parts), alpha.chunk(parts), strict=True), 1):
            with self._no_sync() if number < parts else contextlib.nullcontext():
                loss = self._loss(photos, target) / parts
                torch.autograd.backward(loss)
            total = total + loss.detach()
        norm = nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        # Workers share their gradients, so that all of them see the same norm and decide the same.
        bad = (~torch.isfinite(norm)).float()
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]  # read by the fused kernel, as gradient scalers do
        self.optimizer.step()
        self._ema.blend(self._average_share * (1 - bad))
        self._last.copy_(total)
        self._note(total, bad)

    @torch.no_grad()
    def _note(self, loss: Tensor, bad: Tensor) -> None:
        """Count a step."""
        good = 1 - bad
        self._counts[_LOSS] += torch.where(bad > 0, torch.zeros_like(loss), loss)
        self._counts[_GOOD] += good
        self._counts[_BAD_NOW] = (self._counts[_BAD_NOW] + 1) * bad
        torch.maximum(self._counts[_BAD_MOST], self._counts[_BAD_NOW], out=self._counts[_BAD_MOST])

    def _run_captured(self, image: Tensor, alpha: Tensor) -> None:
        """Replay the step that was captured for this shape; capture it after some that were run as they came."""
        shape = image.shape
        self._seen[shape] = self._seen.get(shape, 0) + 1
        if self._seen[shape] <= _WARM_UP_STEPS:
            # Beside the default stream, as the capture demands of what runs before it.
            side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._compute(image, alpha)
            torch.cuda.current_stream().wait_stream(side)
            return
        if shape not in self._graphs:
            still_image, still_alpha = image.clone(memory_format=torch.preserve_format), alpha.clone()
            self.optimizer.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._compute(still_image, still_alpha)
            self._graphs[shape] = (graph, still_image, still_alpha)
        graph, still_image, still_alpha = self._graphs[shape]
        still_image.copy_(image)
        still_alpha.copy_(alpha)
        graph.replay()


def _captures_on(device: torch.device) -> bool:
    """Whether steps on a device can be captured."""
    return device.type == "cuda"
