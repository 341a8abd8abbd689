"""Commands of the kit: pack here; receive, run and send there; join here."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import click

from cutray.errors import InputError, OptionError
from pipelines.gpu_kit.outbox import Outbox
from pipelines.gpu_kit.pack import pack_kit, receive
from pipelines.gpu_kit.parts import join_parts

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def gpu_kit() -> None:
    """Use a few minutes on a GPU whose machine has no network and little room for transfers.

    \b
    python -m pipelines.gpu_kit pack kit --queue queue.yaml --data duts=DUTS-TR/ --model u2net --wheels wheels/
    python -m pipelines.gpu_kit receive kit/load-1 --work /tmp/work          there, for each load
    python -m pipelines.gpu_kit run --work /tmp/work -o $OUT --seconds 480   there
    python -m pipelines.gpu_kit send --work /tmp/work -o $OUT                there, while parts are left
    python -m pipelines.gpu_kit join parts/ -o runs/                         back here
    """


@gpu_kit.command("pack")
@click.argument("kit", type=_FOLDER)
@click.option("--queue", required=True, type=click.Path(path_type=Path, exists=True), help="What is to be done (YAML).")
@click.option("--data", multiple=True, metavar="NAME=FOLDER", help="Photos with masks, under a name.")
@click.option("-m", "--model", "models", multiple=True, help="Weights to take along.")
@click.option("--run", "runs", multiple=True, type=_FOLDER, help="Folder of a run to go on with.")
@click.option("--wheels", type=_FOLDER, help="Folder of wheels that the machine lacks.")
@click.option("--side", default=320, show_default=True, type=click.IntRange(min=32), help="Side of the photos, pixels.")
def pack(
    kit: Path,
    queue: Path,
    data: tuple[str, ...],
    models: tuple[str, ...],
    runs: tuple[Path, ...],
    wheels: Path | None,
    side: int,
) -> None:
    """Pack photos, weights and the queue into folders that one transfer each can carry (22 MiB, files of 16 MiB)."""
    from pipelines.gpu_kit.queue import read_queue

    named = []
    for entry in data:
        name, equals, folder = entry.partition("=")
        if not (equals and name.isidentifier() and Path(folder).is_dir()):
            raise OptionError(got=f"--data {entry}", allowed="NAME=FOLDER with a folder of photos and masks")
        named.append((name, Path(folder)))
    checked = read_queue(queue)
    with tempfile.TemporaryDirectory() as scratch:
        resolved = Path(scratch) / "queue.json"
        resolved.write_text(checked.model_dump_json(indent=1))
        folders = pack_kit(kit, queue=resolved, data=named, models=models, runs=runs, wheels=wheels, side_px=side)
    click.echo(json.dumps({"job": "gpu_kit pack", "loads": [str(folder) for folder in folders]}))


@gpu_kit.command("receive")
@click.argument("loads", nargs=-1, required=True, type=_FOLDER)
@click.option("--work", required=True, type=_FOLDER, help="Folder to work in.")
def receive_loads(loads: tuple[Path, ...], work: Path) -> None:
    """Take loads in; they may come one after another."""
    missing = receive(loads, work)
    click.echo(json.dumps({"job": "gpu_kit receive", "incomplete": missing}))


@gpu_kit.command("run")
@click.option("--work", required=True, type=_FOLDER, help="Folder that loads were received in.")
@click.option("-o", "--output", required=True, type=_FOLDER, help="Folder whose files come back.")
@click.option("--seconds", required=True, type=click.FloatRange(min=1), help="How long it may take.")
def run_queue(work: Path, output: Path, seconds: float) -> int:
    """Check the machine, measure, and learn what is queued, within a given time."""
    from pipelines.gpu_kit.session import Session

    output.mkdir(parents=True, exist_ok=True)
    # Weights that were brought along are found by their names.
    os.environ.setdefault("CUTRAY_HOME", str((work / "home").resolve()))
    report = Session(work, output, seconds).run()
    click.echo(json.dumps({"job": "gpu_kit run", "done": list(report["done"]), "failed": report["failed"]}))
    return 1 if report["failed"] else 0


@gpu_kit.command("send")
@click.option("--work", required=True, type=_FOLDER, help="Folder of the run.")
@click.option("-o", "--output", required=True, type=_FOLDER, help="Folder whose files come back.")
def send(work: Path, output: Path) -> None:
    """Bring further parts that did not fit into an earlier call."""
    click.echo(json.dumps({"job": "gpu_kit send", "left": Outbox(work / "outbox").send(output)}))


@gpu_kit.command("join")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER)
@click.option("-o", "--output", required=True, type=_FOLDER, help="Folder to unpack into, such as runs/.")
def join(folders: tuple[Path, ...], output: Path) -> None:
    """Put together what came back: a folder for each training.

    `cutray train --resume` goes on with one whose checkpoints came back. Those of u2net are larger than a transfer.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archives, missing = join_parts(folders, Path(scratch))
        newest = {archive.parent.name: archive for archive in sorted(archives)}
        for archive in newest.values():
            target = output / archive.parent.name
            if target.exists():
                raise InputError(got=f"{target} is there already", fix="name another folder")
            with zipfile.ZipFile(archive) as stored:
                stored.extractall(target.with_name(f"{target.name}.partial"))
            shutil.move(target.with_name(f"{target.name}.partial"), target)
    facts = {"joined": [str(output / name) for name in newest], "incomplete": missing}
    click.echo(json.dumps({"job": "gpu_kit join", **facts}))
