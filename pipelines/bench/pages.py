"""The pages in docs/benchmarks: one for each instruction set, so that a run on one machine leaves the others' pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cutray.config import EngineSettings
from cutray.engines.hardware import Hardware, inspect_hardware
from cutray.imaging.files import write_atomically
from cutray.preflight import check_new_file
from pipelines.bench.capped import CAP_VARIABLE

# What each side makes of oneDNN's cap: OpenVINO gets slower, and the package of MNN has no code that could be capped.
_OPENVINO_IS_CAPPED = (
    "Capped by `ONEDNN_MAX_CPU_ISA`: OpenVINO keeps to it, MNN has no code for more than AVX2, and ONNX Runtime, with"
    " it rembg, knows no cap, so that ratios are lower than on a processor that has no more."
)
_ALL_IS_CAPPED = "Capped by `cutray bench capped`: to every library on both sides the processor seems to have no more."


def page_path(output: Path, hardware: Hardware) -> Path:
    """Return where a page goes: ``photo.md`` becomes ``photo.avx2.md``, or ``photo.avx2-capped.md`` under a cap."""
    kind = hardware.instruction_set.lower().replace(" with ", "-").replace(" ", "-")
    return output.with_name(f"{output.stem}.{kind}{'-capped' if hardware.capped else ''}{output.suffix}")


def describe_machine(hardware: Hardware) -> str:
    """Return one line about the processor and the instruction set that was really used."""
    line = f"Machine: {hardware.cpu_name}, {hardware.cores} cores, {hardware.used_instruction_set}."
    if not hardware.capped:
        return line
    return f"{line} {_ALL_IS_CAPPED if CAP_VARIABLE in os.environ else _OPENVINO_IS_CAPPED}"


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--output`` and ``--overwrite`` to a benchmark whose page is named after the instruction set."""
    about = "Write the page, with the instruction set in its name: page.md becomes page.avx2.md."
    output = click.option("-o", "--output", type=click.Path(path_type=Path), help=about)
    return output(overwrite_option(command))


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--model`` and ``--rembg-model`` to a benchmark of a single model of ours beside one of rembg's."""
    ours = EngineSettings.model_fields["model"].default
    command = click.option("--rembg-model", default="u2net", show_default=True, help="rembg's model.")(command)
    return click.option("-m", "--model", default=ours, show_default=True, help="Our model.")(command)


def overwrite_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--overwrite`` to a benchmark."""
    return click.option("--overwrite", is_flag=True, help="Replace what is there of an earlier run.")(command)


def check_page(output: Path | None, *, overwrite: bool) -> None:
    """Check, before anything is measured, that a page can be written to the file of this instruction set.

    Raises:
        OutputExistsError: It exists, and may not be replaced.
        OutputError: Its folder cannot be written to.
    """
    if output is not None:
        check_new_file(page_path(output, inspect_hardware()), overwrite=overwrite)


def write_page(output: Path | None, text: str, *, overwrite: bool = False) -> None:
    """Write a page to the file of this machine's instruction set, if one was asked for."""
    if output is not None:
        write_atomically(page_path(output, inspect_hardware()), text.encode(), overwrite=overwrite)
