"""Time every engine that is installed on this machine, for ``cutray doctor --measure``."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cutray.config import EngineSettings
from cutray.engines.base import draw_check_picture
from cutray.engines.hardware import inspect_hardware
from cutray.engines.measured import Winner, keep_winner
from cutray.engines.select import EngineChoice, list_cpu_choices
from cutray.errors import CutrayError, EngineError, OutputError
from cutray.models.weights import Weights, cache_dir, resolve
from cutray.segmenter import Segmenter, measuring_conditions

# An engine is not chosen if its probabilities differ from the reference's by more than this on average. bf16 differs by
# 0.001 and int8 by less, so that more means a fault.
MAX_MEAN_DIFFERENCE = 0.005
# No engine is begun after this long, so that the whole ends within a minute; each is timed for a while.
_BUDGET_S, _EACH_S, _MOST_PASSES = 45.0, 4.0, 10


@dataclass(frozen=True, slots=True)
class Timing:
    """What one engine did.

    Attributes:
        choice: Engine, number format and threads.
        pass_s: Seconds of its fastest pass; the fastest is what other programs disturb least. NaN if it did not run.
        mean_difference: Mean difference of its probabilities to the reference's.
        problem: Why it cannot be chosen; empty if it can.
    """

    choice: EngineChoice
    pass_s: float
    mean_difference: float
    problem: str


def measure_engines(settings: EngineSettings) -> Iterator[Timing]:
    """Time all engines and number formats for one model on the processor, one after the other.

    Args:
        settings: Model and threads.

    Yields:
        The timing of each engine as soon as it is known. The first one, in fp32, is the reference for the others.

    Raises:
        WeightsError: The weights are not obtainable.
        EngineError: The model is an ensemble, or no engine is installed.
    """
    weights = resolve(settings.model, offline=settings.offline)
    if weights.members:
        raise EngineError(got=f"{settings.model} is an ensemble", fix="measure each of its models")
    choices = list_cpu_choices(settings, weights.path.suffix, inspect_hardware())
    if not choices:
        raise EngineError(got="no engine is installed that runs on the processor", fix="`pip install openvino`")
    picture = draw_check_picture(weights.spec.input_size_px)
    reference, deadline = None, time.perf_counter() + _BUDGET_S
    for choice in choices:
        if time.perf_counter() > deadline:
            yield Timing(choice, float("nan"), float("nan"), "not measured: the time was up")
            continue
        timing, probs = _measure(weights, choice, picture, reference)
        reference = probs if reference is None else reference
        yield timing


def keep_fastest(timings: Sequence[Timing], settings: EngineSettings) -> Timing:
    """Keep the fastest engine that may be chosen, so that "auto" takes it from now on.

    Raises:
        EngineError: None may be chosen.
        OutputError: The cache cannot be written.
    """
    good = [timing for timing in timings if not timing.problem]
    if not good:
        raise EngineError(got="no engine ran", fix="`cutray doctor` shows what is installed")
    fastest = min(good, key=lambda timing: timing.pass_s)
    winner = Winner(fastest.choice.engine, fastest.choice.precision, datetime.date.today().isoformat())
    conditions = measuring_conditions(resolve(settings.model, offline=True), settings, inspect_hardware())
    try:
        keep_winner(winner, conditions, cache_dir())
    except OSError as error:
        raise OutputError(
            got=f"the result cannot be kept: {error}", fix="set CUTRAY_HOME to a folder that can be written"
        ) from error
    return fastest


def _measure(
    weights: Weights, choice: EngineChoice, picture: np.ndarray, reference: np.ndarray | None
) -> tuple[Timing, np.ndarray | None]:
    """Time one engine; one that fails is told as such."""
    try:
        # What OpenVINO keeps would be a file for each number format, of which one is used afterwards.
        engine = Segmenter.with_choice(weights, choice, keep=choice.engine != "openvino").engine
        probs = engine.infer(picture)  # the first pass is slower, and not counted
        times: list[float] = []
        while len(times) < _MOST_PASSES and sum(times) < _EACH_S:
            started = time.perf_counter()
            engine.infer(picture)
            times.append(time.perf_counter() - started)
    except CutrayError as error:
        return Timing(choice, float("nan"), float("nan"), error.got), None
    difference = float(np.abs(probs - (probs if reference is None else reference)).mean())
    problem = ""
    if not difference <= MAX_MEAN_DIFFERENCE:
        problem = f"differs by more than {MAX_MEAN_DIFFERENCE}"
    elif choice.precision not in ("fp32", *weights.spec.cpu_precisions):
        problem = "loses quality with this model"
    return Timing(choice, min(times), difference, problem), probs
