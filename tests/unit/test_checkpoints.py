"""Checkpoints are whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from cutray.errors import CheckpointError  # noqa: E402
from cutray.training.checkpoints import (  # noqa: E402
    Checkpoint,
    TrainState,
    name_checkpoint,
    newest_whole,
    pack_optimizer,
    read_checkpoint,
    unpack_optimizer,
    write_checkpoint,
)


def _write(folder: Path, step: int) -> Path:
    tensors = {"weights": {"a": torch.full((3,), float(step))}, "best": {}, "optimizer": {"0.step": torch.tensor(2.0)}}
    folder.mkdir()
    write_checkpoint(folder, Checkpoint(TrainState(step=step, history=[{"iou": 0.5}]), tensors))
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Tensors, shapes without dimensions and the progress come back."""
    found = read_checkpoint(_write(tmp_path / "c", 7))
    assert found.state == TrainState(step=7, history=[{"iou": 0.5}])
    assert found.tensors["weights"]["a"].tolist() == [7, 7, 7]
    assert found.tensors["optimizer"]["0.step"].shape == ()


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "progress.json", "sha256sums"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path: Path, name: str, harm: str) -> None:
    """Any file that is cut off, altered in one bit or missing is noticed, and the older checkpoint is used."""
    older, newer = (_write(tmp_path / name_checkpoint(TrainState(total_steps=step)), step) for step in (1, 2))
    path = newer / name
    data = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        data[len(data) // 3] ^= 4
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(CheckpointError):
        read_checkpoint(newer)
    (tmp_path / "checkpoint_manager_snapshot.json").write_text("{}")  # Ray keeps its own notes there
    found, problems = newest_whole(tmp_path)
    assert older.is_dir()
    assert found is not None and found.state.step == 1
    assert len(problems) == 1


def test_nothing_whole(tmp_path: Path) -> None:
    """Without any whole checkpoint there is none, and the reasons are told."""
    (tmp_path / "checkpoint_000000001_0000").mkdir()
    found, problems = newest_whole(tmp_path)
    assert found is None
    assert "incomplete" in problems[0]


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(fused: bool) -> None:
    """After packing and unpacking, the next step moves the weights to the same place, whatever their layout."""

    def network() -> torch.nn.Conv2d:
        torch.manual_seed(0)
        return torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)

    inputs = torch.rand(2, 4, 5, 5)
    first, second = network(), network()
    one, two = (torch.optim.AdamW(each.parameters(), 0.1, fused=fused) for each in (first, second))
    for _ in range(3):
        one.zero_grad()
        first(inputs).square().sum().backward()
        one.step()
    second.load_state_dict(first.state_dict())
    unpack_optimizer(two, {name: value.clone().contiguous() for name, value in pack_optimizer(one).items()})
    for network_, optimizer in ((first, one), (second, two)):
        optimizer.zero_grad()
        network_(inputs).square().sum().backward()
        optimizer.step()
    assert torch.equal(first.weight, second.weight)
