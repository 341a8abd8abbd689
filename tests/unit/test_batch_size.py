"""The batch size by memory: measured against a budget, tried until memory runs out, fixed for a run and its resumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from cutray.config import AUTO, TrainSettings, parse_settings  # noqa: E402
from cutray.engines.hardware import available_bytes  # noqa: E402
from cutray.errors import TrainingError  # noqa: E402
from cutray.training.batch_size import is_out_of_memory, largest_that_fits, settle_batch  # noqa: E402
from cutray.training.local import fit_here  # noqa: E402
from pipelines.train import train  # noqa: E402
from tests.training import environment  # noqa: E402

SCENES: list[Any] = [{"number": number, "case": "ordinary", "family": "train"} for number in range(400)]
# Prints what a budget has room for by measurement; then what really fits, once the system grants no more than that.
LIMITED = """
import json, resource
from pathlib import Path
from cutray.config import TrainSettings, parse_settings
from cutray.training.batch_size import fitting_batch, largest_that_fits
from cutray.training.scratch import scratch_trainer
import torch

values = {"precision": "fp32", "threads_per_worker": 1, "data": {"side_px": 64}, "batch_memory_gb": %s}
settings = parse_settings(TrainSettings, values)
estimate = fitting_batch(settings, [{"number": 0, "case": "ordinary", "family": "train"}], 64)
single = settings.model_copy(update={"optim": settings.optim.model_copy(update={"batch_size": 1})})
with scratch_trainer(single, []) as it:
    def attempt(size):
        it.step.run(torch.rand(size, 3, 64, 64), torch.rand(size, 1, 64, 64), 1e-6, 1)
    attempt(2)
    status = Path("/proc/self/status").read_text().splitlines()
    taken = next(int(line.split()[1]) for line in status if "VmData" in line)
    limit = taken * 1024 + int(settings.batch_memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    fits = largest_that_fits(attempt, 64)
print(json.dumps([estimate, fits]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process so")
def test_measured_and_tried_sizes_agree() -> None:
    """Under a limit of the system the allocator fails for real; the measured size fits, and is not far too small."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED % 0.2],
        capture_output=True,
        text=True,
        env=environment(OMP_NUM_THREADS="1"),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    estimate, fits = json.loads(done.stdout)
    assert estimate >= 4
    # Sizes are powers of two, and the allocator's pieces may cost one of them.
    assert estimate <= 2 * fits and fits <= 4 * estimate
    assert fits < 64


def test_what_memory_has_no_room_for_is_accumulated() -> None:
    """A batch that was given stays the batch; parts divide it evenly and are no larger than what fits."""
    asked: list[int] = []

    def room_for_six(settings: TrainSettings, samples: Any, most: int) -> int:
        asked.append(most)
        return min(6, most)

    def settled(**optim: Any) -> tuple[int, int]:
        settings = parse_settings(TrainSettings, {"optim": optim})
        chosen = settle_batch(settings, SCENES, 2, room_for_six).optim
        return chosen.batch_size, chosen.accumulate

    assert settled(batch_size=48, accumulate="auto") == (48, 4)
    assert settled(batch_size=8, accumulate="auto") == (8, 1)
    assert settled(batch_size="auto") == (12, 1)
    assert settled(batch_size="auto", accumulate=2) == (24, 2)
    assert asked == [24, 4, 50, 25]
    assert settled(batch_size=7) == (7, 1)
    assert len(asked) == 4  # nothing is tried where nothing is asked for


def test_a_run_keeps_the_size_that_it_began_with(tmp_path: Path) -> None:
    """The settings of the run hold the number; going on takes it, though memory would now decide otherwise."""
    values: dict[str, Any] = {
        "name": "sized",
        "save_dir": str(tmp_path),
        "tracking_uri": "none",
        "precision": "fp32",
        "threads_per_worker": 1,
        "data": {"side_px": 32, "scenes": 20, "validation_scenes": 1},
        "optim": {"batch_size": "auto", "epochs": 1},
        "batch_memory_gb": 0.08,
    }
    fit_here(parse_settings(TrainSettings, values))
    kept = json.loads((tmp_path / "sized" / "settings.json").read_text())["optim"]["batch_size"]
    assert kept in (2, 4)
    more = {**values, "batch_memory_gb": 8.0, "optim": {"batch_size": "auto", "epochs": 2}}
    result = fit_here(parse_settings(TrainSettings, more))
    assert result.state.total_steps == 2 * (20 // kept)
    assert json.loads((tmp_path / "sized" / "settings.json").read_text())["optim"]["batch_size"] == kept
    with pytest.raises(TrainingError, match="two samples take"):
        fit_here(parse_settings(TrainSettings, {**values, "name": "none", "batch_memory_gb": 1e-4}))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    """They are raised as they are; what the allocator says is understood; and there is memory on this machine."""
    with pytest.raises(RuntimeError, match="must match"):
        largest_that_fits(lambda size: torch.zeros(2) + torch.zeros(3) if size else None, 4)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert available_bytes() > 1 << 26


def test_the_option_takes_a_number_or_the_word() -> None:
    """`--batch-size auto` and `--batch-size 16` are taken, anything else is refused with both in the message."""
    option = next(one for one in train.params if "--batch-size" in one.opts)
    assert [option.type.convert(word, None, None) for word in ("auto", "16")] == ["auto", 16]
    with pytest.raises(click.BadParameter):
        option.type.convert("many", None, None)
    assert parse_settings(TrainSettings, {"optim": {"batch_size": "auto"}}).optim.batch_size == AUTO
