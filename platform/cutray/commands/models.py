"""``cutray models``: list, fetch, show and verify weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from cutray.errors import CutrayError
from cutray.models.catalog import ModelSpec, describe_file, list_models
from cutray.models.elsewhere import list_elsewhere, unknown_model


@click.group()
def models() -> None:
    """List, fetch, show and verify model weights.

    \b
    cutray models list            what there is, and what is on this machine
    cutray models pull u2net      fetch and check it
    cutray models show u2net      size, hash, licence, sources
    cutray models verify          hash everything that is here again
    """


@models.command("list")
def list_command() -> None:
    """List the known models.

    \b
    cutray models list            name, size, input, whether it is here, licence
    """
    from cutray.models.weights import locate

    row = "{:<18} {:>9}  {:>6}  {:<4}  {}"
    click.echo(row.format("model", "size", "input", "here", "what it is for (licence)"))
    for spec in list_models():
        here = "yes" if locate(spec) else "no"
        about = f"{spec.description} ({spec.license})"
        click.echo(row.format(spec.name, _size(spec.size_bytes), f"{spec.input_size_px}²", here, about))
    names = ", ".join(model.name for model in list_elsewhere())
    click.echo(f"\nnot run here; `cutray models show NAME` says why, and what to use instead: {names}")


@models.command()
@click.argument("names", nargs=-1, required=True)
def pull(names: tuple[str, ...]) -> None:
    """Fetch weights and check their hash; a damaged file is fetched again.

    \b
    cutray models pull u2net                 one model
    cutray models pull u2net u2netp          several
    """
    from cutray.console.progress import download_progress
    from cutray.models.weights import pull as pull_weights

    for name in names:
        with download_progress() as report:
            weights = pull_weights(name, progress=report)
        click.echo(f"{name}: {weights.path} (sha256 {weights.sha256})")


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Show all that is known about a model or a weights file.

    \b
    cutray models show u2net                 hash, licence, sources, and where it is on this machine
    cutray models show shoes.onnx            what a file of your own says of itself
    cutray models show u2net+isnet           each member of an ensemble
    """
    from cutray.models.weights import JOIN

    members = [name] if os.path.isfile(name) else name.split(JOIN)
    for member in members:
        if member != members[0]:
            click.echo()
        _show(member)


def _show(name: str) -> None:
    """Print what is known about a single model."""
    from cutray.models.weights import locate

    path = Path(name)
    if elsewhere := {model.name: model for model in list_elsewhere()}.get(name):
        _print_rows(
            {
                "name": elsewhere.name,
                "runs here": f"no: {elsewhere.reason}",
                "instead": elsewhere.instead,
                "size": f"about {elsewhere.size_mb} MB" if elsewhere.size_mb else "none",
                "licence": elsewhere.license,
                "published": elsewhere.source,
            }
        )
        return
    spec = describe_file(path) if os.path.isfile(path) else _spec(name)
    found = path if os.path.isfile(path) else locate(spec)
    rows = {
        "name": spec.name,
        "what": spec.description,
        "architecture": spec.architecture,
        "input": f"{spec.input_size_px} × {spec.input_size_px} px, divided by "
        f"{'its maximum' if spec.scale == 'max' else 255}, mean {spec.mean}, std {spec.std}",
        "formats": f"{', '.join((*spec.cpu_precisions, 'fp32'))}; on a CPU auto takes the first that it computes in",
        "size": f"{spec.size_bytes:,} bytes" if spec.size_bytes else "not pinned",
        "sha256": spec.sha256 or "not pinned" + (f" (md5 {spec.md5})" if spec.md5 else ""),
        "licence": spec.license,
        "origin": spec.origin,
        "sources": "\n           ".join(map(str, spec.sources)) or ("the package" if spec.packaged else "none"),
        "here": str(found or f"no; get it with `cutray models pull {spec.name}`"),
    }
    _print_rows(rows)


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> int:
    """Hash weights again, all that are here by default.

    \b
    cutray models verify                     all that are on this machine
    cutray models verify u2net               one of them
    """
    from cutray.models.weights import locate
    from cutray.models.weights import verify as verify_weights

    wanted = [_spec(name) for name in names] if names else [spec for spec in list_models() if locate(spec)]
    if not wanted:
        click.echo("no weights on this machine; get some with `cutray models pull u2net`")
    bad = 0
    for spec in wanted:
        try:
            weights = verify_weights(spec.name)
            click.echo(f"{spec.name}: good ({weights.path})")
        except CutrayError as error:
            bad += 1
            click.echo(f"{spec.name}: {error}", err=True)
    return 1 if bad else 0


def _spec(name: str) -> ModelSpec:
    """Find a model by name."""
    known = {spec.name: spec for spec in list_models()}
    if name not in known:
        raise unknown_model(name, known, f"names are {', '.join(known)}")
    return known[name]


def _print_rows(rows: Mapping[str, str]) -> None:
    """Print names and values in two columns."""
    for key, value in rows.items():
        click.echo(f"{key:<13}{value}")


def _size(size_bytes: int) -> str:
    """Print megabytes, or nothing where the size is unknown."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes else ""
