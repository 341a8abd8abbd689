"""``cutray doctor``: what this machine offers, and what Cutray makes of it."""

from __future__ import annotations

import json
import platform
import sys
from typing import TYPE_CHECKING, Any

import click

from cutray import __version__
from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.errors import CutrayError

if TYPE_CHECKING:
    from cutray.engines.hardware import Hardware
    from cutray.engines.measured import Winner


@click.command(cls=GroupedCommand)
@settings_options(EngineSettings)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option(
    "--measure", is_flag=True, help="Time all engines here, within a minute; auto takes the fastest from now on."
)
@click.option("--forget", is_flag=True, help="Forget what was measured.")
def doctor(as_json: bool, measure: bool, forget: bool, **options: Any) -> int:
    """Show what this machine offers and which engine would be used, and why.

    \b
    cutray doctor                  what auto chooses here
    cutray doctor --device cuda    why the GPU is not used
    cutray doctor --measure        time all engines; -m names another model than the default
    """
    settings = parse_settings(RemoverSettings, given(options))
    if forget:
        _forget()
    if measure:
        _measure(settings, quiet=as_json)
    facts, problems = _examine(settings)
    if as_json:
        click.echo(json.dumps({**facts, "problems": problems}, indent=2))
    else:
        for key, value in facts.items():
            click.echo(f"{key:<14}{value}")
        for problem in problems:
            click.echo(f"{'problem':<14}{problem}")
        click.echo("ready" if not problems else "not ready: see above")
    return 1 if problems else 0


def _read_winner(settings: RemoverSettings, hardware: Hardware) -> Winner | None:
    """Return what was measured for the model, if its weights are here."""
    from cutray.engines.measured import read_winner
    from cutray.models.weights import cache_dir, resolve
    from cutray.segmenter import measuring_conditions

    try:
        weights = resolve(settings.model, offline=True)
    except CutrayError:
        return None
    return read_winner(measuring_conditions(weights, settings, hardware), cache_dir())


def _forget() -> None:
    """Forget the fastest engines of all models."""
    from cutray.engines.measured import forget_winners
    from cutray.models.weights import cache_dir

    click.echo(f"forgotten: {forget_winners(cache_dir())} measured", err=True)


def _measure(settings: RemoverSettings, *, quiet: bool) -> None:
    """Time all engines, print a line for each as it is done, and keep the fastest."""
    from cutray.commands.measure import keep_fastest, measure_engines

    timings = []
    if not quiet:
        click.echo(f"{settings.model}, one pass\n{'engine':<13}{'precision':<11}{'ms':>7}  {'difference':<12}")
    for timing in measure_engines(settings):
        timings.append(timing)
        choice = timing.choice
        if not quiet:
            click.echo(
                f"{choice.engine:<13}{choice.precision:<11}{timing.pass_s * 1000:>7.0f}"
                f"  {timing.mean_difference:<12.1g}{timing.problem}"
            )
    fastest = keep_fastest(timings, settings).choice
    if not quiet:
        click.echo(f"kept: {fastest.engine} in {fastest.precision}\n")


def _examine(settings: RemoverSettings) -> tuple[dict[str, str], list[str]]:
    """Collect facts for people, and what stands in the way."""
    from cutray.engines.hardware import inspect_hardware
    from cutray.engines.select import choose_engine
    from cutray.models.catalog import list_models
    from cutray.models.weights import cache_dir, locate

    hardware = inspect_hardware()
    flags = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_int8", "arm_bf16")
    facts = {
        "cutray": f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "python": sys.executable,
        "processor": f"{hardware.cpu_name}, {hardware.cores} usable cores",
        "instructions": hardware.used_instruction_set,
        "features": ", ".join(flag.upper() for flag in flags if getattr(hardware, flag)) or "no bf16",
        "gpu": ", ".join(hardware.cuda_gpus) or "none",
        "packages": ", ".join(f"{name} {version}" for name, version in hardware.packages.items()) or "no engine at all",
    }
    problems = []
    if hardware.both_onnxruntimes:
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "`pip uninstall -y onnxruntime onnxruntime-gpu`, then install the one you want"
        )
    known = {spec.name: spec.cpu_precisions for spec in list_models()}
    try:
        choice = choose_engine(
            settings, ".onnx", hardware, known.get(settings.model, ("bf16",)), _read_winner(settings, hardware)
        )
        facts["engine"] = (
            f"{choice.engine} on {choice.device} in {choice.precision}, {choice.threads} threads: {choice.reason}"
        )
    except CutrayError as error:
        problems.append(str(error))
    here = [spec.name for spec in list_models() if locate(spec)]
    facts["cache"] = str(cache_dir())
    facts["weights"] = ", ".join(here) or "none yet; the first cutout fetches them, or `cutray models pull u2net`"
    return facts, problems
