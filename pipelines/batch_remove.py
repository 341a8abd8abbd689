"""The batch: a whole collection of photos, every photo exactly once, whatever happens in between.

python -m pipelines.batch_remove SRC DST    the same as ``cutray batch SRC DST``
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from typing import Any

import click

from cutray.config import (
    BatchSettings,
    CanvasSettings,
    EngineSettings,
    HintSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    ReadingSettings,
    RemoverSettings,
    parse_settings,
)
from cutray.console.extras import requires_extra
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.ray_address import resolve_address
from cutray.console.run import run

_FLAGS = ("masks", "shard_masks", "retry_failed", "reprocess", "verify", "overwrite", "allow_empty", "report")


@click.command(
    cls=GroupedCommand, epilog="Exit code: 0 all done, 1 too many failed or the job was stopped, 2 wrong usage."
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--masks", help="Folder or address for the masks (PNG), with the same names.")
@click.option("--shard-masks", is_flag=True, help="Put masks into the shards (sinks parquet and webdataset).")
@click.option("--retry-failed", is_flag=True, help="Try photos again that failed before.")
@click.option("--reprocess", is_flag=True, help="Do photos again whose results were made with other settings.")
@click.option("--verify", is_flag=True, help="Check what is done by its content instead of by size and time.")
@click.option("--overwrite", is_flag=True, help="Replace files in DST, and masks, that no earlier batch has made.")
@click.option("--allow-empty", is_flag=True, help="Write a fully transparent picture where no subject is found.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write _cutray/report.html with samples.")
@settings_options(
    BatchSettings,
    OutputSettings,
    CanvasSettings,
    HintSettings,
    MattingSettings,
    EngineSettings,
    ReadingSettings,
    InputLimits,
)
@requires_extra("batch", "pyarrow")
def batch(source: str, target: str, **options: Any) -> int:
    """Cut out a whole collection, on this machine or on a Ray cluster.

    SRC is a folder, a pattern ('photos/**/*.jpg'), a list of paths (.csv, .jsonl, .parquet), Parquet files or
    WebDataset tars that hold photos, or an address of these such as s3://bucket/photos. DST mirrors its tree, or holds
    Parquet or WebDataset shards. Run the same command again to go on where it stopped.

    \b
    cutray batch photos/ cutouts/
    cutray batch photos/ cutouts/ --format webp --masks masks/
    cutray batch photos/ cutouts/ --retry-failed --max-failures 1%
    cutray batch s3://bucket/photos s3://bucket/cutouts --address auto
    cutray batch data/train.parquet cutouts.parquet/ --image-column image --shard-masks
    cutray batch 'tars/*.tar' cutouts/ --sink webdataset
    """
    flags = {name: options.pop(name) for name in _FLAGS}
    chosen = given(options)
    batch_settings = parse_settings(
        BatchSettings, {name: chosen.pop(name) for name in BatchSettings.model_fields & chosen.keys()}
    )
    address = resolve_address(batch_settings.address)
    # Without a cluster nothing is gained by Ray, but that it hands out GPUs.
    on_ray = address is not None or batch_settings.address == "local" or batch_settings.gpus_per_actor > 0
    batch_settings = batch_settings.model_copy(update={"address": address})
    settings = parse_settings(RemoverSettings, chosen)
    from pipelines.batch.worker_start import early_worker

    with nullcontext() if on_ray else early_worker(settings.device) as early:
        from pipelines.batch.job import BatchJob
        from pipelines.batch.run import run_batch

        summary = run_batch(BatchJob(source, target, settings, batch_settings, on_ray=on_ray, **flags), early=early)
    click.echo(json.dumps(summary))
    return 0 if summary["ok"] else 1


if __name__ == "__main__":
    sys.exit(run(batch))
