"""The benchmark of the networks alone: what is counted, and what share of the processor's peak is reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cutray.cli import cli
from cutray.errors import EngineUnavailableError
from cutray.models.weights import resolve
from tests.conftest import require_weights

cpu = pytest.importorskip("pipelines.bench.cpu")
pytest.importorskip("openvino")


def test_operations_are_those_of_the_published_networks() -> None:
    """Those of u2netp at 320 pixels, and of the lean network at both sides, which are on its card."""
    require_weights("u2netp")
    assert cpu.count_operations(resolve("u2netp", offline=True)) / 1e9 == pytest.approx(19.8, abs=0.1)
    assert cpu.count_operations(resolve("u2net-lean", offline=True)) / 1e9 == pytest.approx(35.2, abs=0.2)
    assert cpu.count_operations(resolve("u2net-lean-288", offline=True)) / 1e9 == pytest.approx(28.5, abs=0.2)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_plain_convolutions_count_what_they_compute(precision: str) -> None:
    """Four layers of 256 channels, 3 × 3, on 80 × 80 places."""
    run, multiplications = cpu.plain_convolutions(precision, threads=1)
    assert multiplications == 4 * 256 * 256 * 9 * 80 * 80
    assert run()


def test_page_names_engine_and_share(tmp_path: Path) -> None:
    """One row for each network, in a file with the instruction set in its name."""
    require_weights("u2netp")
    page = tmp_path / "networks.md"
    result = CliRunner().invoke(cli, ["bench", "cpu", "-m", "u2netp", "-r", "1", "-o", str(page)])
    assert result.exit_code == 0, result.output
    (written,) = tmp_path.glob("networks.*.md")
    (row,) = [line for line in written.read_text().splitlines() if line.startswith("| u2netp |")]
    share = float(row.split("|")[-2].strip().rstrip("%"))
    assert 0 < share < 400


def test_several_networks_are_measured_one_by_one() -> None:
    """An ensemble has no number format of its own."""
    require_weights("u2netp")
    with pytest.raises(EngineUnavailableError, match="several"):
        cpu.measure_networks([resolve("u2netp+u2netp-distilled", offline=True)], 1)
