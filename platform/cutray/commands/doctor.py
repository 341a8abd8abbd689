"""``cutray doctor``: what this machine offers, and what Cutray makes of it."""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

import click

from cutray import __version__
from cutray.config import EngineSettings, RemoverSettings, parse_settings
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.errors import CutrayError


@click.command(cls=GroupedCommand)
@settings_options(EngineSettings)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool, **options: Any) -> int:
    """Show what this machine offers and which engine would be used, and why.

    \b
    cutray doctor                  what auto chooses here
    cutray doctor --device cuda    why the GPU is not used
    """
    settings = parse_settings(RemoverSettings, given(options))
    facts, problems = _examine(settings)
    if as_json:
        click.echo(json.dumps({**facts, "problems": problems}, indent=2))
    else:
        for key, value in facts.items():
            click.echo(f"{key:<12}{value}")
        for problem in problems:
            click.echo(f"problem     {problem}")
        click.echo("ready" if not problems else "not ready: see above")
    return 1 if problems else 0


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
    named = [spec.cpu_precisions for spec in list_models() if spec.name == settings.model]
    try:
        choice = choose_engine(settings, ".onnx", hardware, *named)
        facts["engine"] = (
            f"{choice.engine} on {choice.device} in {choice.precision}, {choice.threads} threads: {choice.reason}"
        )
    except CutrayError as error:
        problems.append(str(error))
    here = [spec.name for spec in list_models() if locate(spec)]
    facts["cache"] = str(cache_dir())
    facts["weights"] = ", ".join(here) or "none yet; the first cutout fetches them, or `cutray models pull u2net`"
    return facts, problems
