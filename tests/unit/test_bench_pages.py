"""Pages of benchmarks: a run on one kind of machine never replaces the page of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutray.engines.hardware import Hardware, inspect_hardware
from pipelines.bench.pages import describe_machine, page_path, write_page

KINDS = ("AMX", "AVX512 with VNNI", "AVX512", "AVX2 with VNNI", "AVX2", "Arm", "unknown")


def test_each_kind_has_its_own_file() -> None:
    """Also a capped machine, whose figures are those of no real one."""
    machines = [Hardware(2, instruction_set=kind, capped=capped) for kind in KINDS for capped in (False, True)]
    names = {page_path(Path("docs/photo.md"), machine).name for machine in machines}
    assert len(names) == len(machines)
    assert {"photo.avx2.md", "photo.avx512-vnni.md", "photo.avx2-capped.md"} <= names


@pytest.mark.parametrize("capped", [False, True])
def test_machine_names_the_set_that_was_used(capped: bool) -> None:
    """A cap is named, with what it does not reach."""
    text = describe_machine(Hardware(2, "Xeon", "AVX2", capped=capped))
    assert "Xeon, 2 cores, AVX2" in text
    assert ("(capped)" in text and "rembg" in text) == capped


def test_page_is_written_beside_the_others(tmp_path: Path) -> None:
    """The file has the name of this machine's set, and nothing is written without an output."""
    write_page(None, "text")
    write_page(tmp_path / "photo.md", "text")
    (page,) = tmp_path.iterdir()
    assert page == page_path(tmp_path / "photo.md", inspect_hardware())
    assert page.read_text() == "text"
