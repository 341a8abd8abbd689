"""Several networks as one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402 (after the check for torch)
from safetensors.torch import save_file  # noqa: E402

from cutray import BackgroundRemover  # noqa: E402
from cutray.errors import ConfigError, EngineError, OutputExistsError  # noqa: E402
from cutray.models.ensemble import Ensemble, load_ensemble  # noqa: E402
from cutray.models.export import describe_model  # noqa: E402
from cutray.models.u2net import U2Net, load_u2net  # noqa: E402
from cutray.models.weights import resolve  # noqa: E402
from pipelines.train_ensemble import train_ensemble  # noqa: E402
from tests.scenes import write_pairs  # noqa: E402


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    """Three small networks with weights of their own, for an input of 64 pixels."""
    spec = replace(resolve("u2netp").spec, input_size_px=64)
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        path = tmp_path / f"member-{seed}" / "best.safetensors"
        path.parent.mkdir()
        save_file({name: value.contiguous() for name, value in U2Net("u2netp").state_dict().items()}, path)
        path.with_suffix(".toml").write_text(describe_model(spec))
        paths.append(path)
    return paths


def test_logits_are_averaged(members: list[Path]) -> None:
    """The ensemble's map is the mean of its members' logits, not of their probabilities."""
    networks = [load_u2net(path).eval() for path in members]
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = torch.stack([network(image)[0] for network in networks]).mean(0)
        found = Ensemble(networks).eval()(image)[0]
    assert torch.equal(found, expected)


def test_the_file_runs_like_any_model(members: list[Path], tmp_path: Path) -> None:
    """Put together on the command line, it cuts out photos by its path, and computes what its members say."""
    output = tmp_path / "three.onnx"
    held_out = write_pairs(tmp_path / "held-out", 2, side_px=64)
    arguments = [*map(str, members), "-o", str(output), "--held-out", str(held_out)]
    result = CliRunner().invoke(train_ensemble, arguments, catch_exceptions=False)
    scores = json.loads(result.stdout.splitlines()[-1])["scores"]
    assert list(scores)[:4] == ["ensemble of 3", "member 1", "member 2", "member 3"]
    assert list(scores)[4].endswith("4 looks")
    assert "| ensemble of 3 |" in result.stdout
    remover = BackgroundRemover(str(output), precision="fp32")
    assert remover.segmenter.weights.spec.input_size_px == 64
    batch = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    ensemble, _ = load_ensemble([resolve(str(path)) for path in members])
    with torch.no_grad():
        expected = ensemble(torch.from_numpy(batch))[0].sigmoid()[:, 0].numpy()
    np.testing.assert_allclose(remover.segmenter.engine.infer(batch), expected, atol=2e-3)
    with pytest.raises(OutputExistsError):
        CliRunner().invoke(train_ensemble, arguments, catch_exceptions=False)


def test_networks_that_see_differently_are_refused(members: list[Path]) -> None:
    """A member that was trained at another size cannot share the input of the others."""
    other = members[2].with_suffix(".toml")
    other.write_text(other.read_text().replace("input_size_px = 64", "input_size_px = 96"))
    with pytest.raises(EngineError, match=r"[\w-]+/best\.safetensors wants input_size_px 96"):
        load_ensemble([resolve(str(path)) for path in members])
    with pytest.raises(EngineError, match="an ensemble of 1"):
        load_ensemble([resolve(str(members[0]))])


def test_the_source_of_members_must_be_one(tmp_path: Path) -> None:
    """No source, two sources, or a folder without a sweep are errors before anything is made."""
    output = ["-o", str(tmp_path / "x.onnx")]
    for arguments in ([], ["a.onnx", "--from-sweep", str(tmp_path)], ["--from-sweep", str(tmp_path)]):
        with pytest.raises(ConfigError):
            CliRunner().invoke(train_ensemble, [*arguments, *output], catch_exceptions=False)
    assert not list(tmp_path.iterdir())
