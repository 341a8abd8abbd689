"""Makes a network with fewer operations out of U²-Net, by least squares and without training."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cutray.console.extras import requires_extra
from cutray.console.progress import download_progress
from cutray.errors import ConfigError
from cutray.imaging.decode import decode_image
from cutray.imaging.files import write_atomically
from cutray.models.weights import resolve
from cutray.preflight import check_new_file
from cutray.preprocess import prepare
from pipelines.calibrate import spread_files

_MEASURED_FROM, _MEASURED_WITH = 64, 4
# Layers with a smaller share of the operations are not measured one by one.
_SMALL_SHARE = 0.0025


@click.command()
@click.option("-m", "--model", default="u2net", show_default=True, help="Model name, or path of a U²-Net.")
@click.option(
    "--images", type=click.Path(path_type=Path), required=True, help="Folder of photos like those to be cut out."
)
@click.option(
    "--operations",
    type=click.FloatRange(0.1, 1.0),
    default=0.6,
    show_default=True,
    help="Share of the multiplications at this input side that may stay.",
)
@click.option("--side", "side_px", type=click.IntRange(64, 1024), default=320, show_default=True, help="Input side.")
@click.option(
    "--count", type=click.IntRange(min=8), default=64, show_default=True, help="Photos to fit to (150 MB each)."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="lean.onnx", show_default=True, help="File to write."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@requires_extra("onnx,torch", "torch", "onnx", "onnxruntime")
def compress(
    model: str, images: Path, operations: float, side_px: int, count: int, output: Path, overwrite: bool
) -> None:
    """Make a network with fewer operations that answers as U²-Net does. No gradients; a quarter of an hour.

    \b
    python -m pipelines.compress --images photos/ -o lean.onnx
    python -m pipelines.calibrate -m lean.onnx --images photos/       so that it computes in eight bits, too
    cutray remove photo.jpg -m lean.onnx
    cutray bench quality FOLDER -r u2net:balanced -r lean.onnx:balanced   how good it is
    """
    import torch

    from cutray.models.export import describe_model, export_onnx, store_in_eight_bits
    from cutray.models.u2net import load_u2net
    from pipelines.compress.layers import list_layers
    from pipelines.compress.ranks import choose_ranks, count_operations
    from pipelines.compress.reconstruction import reconstruct
    from pipelines.compress.responses import measure_responses, measure_weights

    described = output.with_suffix(".toml")
    for path in (output, described):
        check_new_file(path, overwrite=overwrite)
    with download_progress() as report:
        weights = resolve(model, progress=report)
    network = load_u2net(weights.path)
    if network.architecture == "isnet":
        raise ConfigError(got=f"{model} is IS-Net", allowed="U²-Net and U²-Net-p")
    spec = replace(weights.spec, input_size_px=side_px)
    files = spread_files(images, _MEASURED_FROM + _MEASURED_WITH + count)
    photos = [torch.from_numpy(prepare(decode_image(file.read_bytes()).pixels, spec))[None] for file in files]
    # In turns, so that each part comes from the whole folder.
    shuffled = [photos[i] for i in torch.randperm(len(photos), generator=torch.Generator().manual_seed(0)).tolist()]
    measured = shuffled[:_MEASURED_FROM]
    tried = shuffled[_MEASURED_FROM : _MEASURED_FROM + _MEASURED_WITH] or measured[:_MEASURED_WITH]
    fitted = shuffled[_MEASURED_FROM + _MEASURED_WITH :] or measured
    layers = list_layers(network, side_px)
    before = sum(layer.full_operations() for layer in layers)
    large = [layer for layer in layers if layer.full_operations() >= _SMALL_SHARE * before]
    with _bar("measuring responses", len(measured)) as bar:
        responses = measure_responses(network, layers, measured, bar.update)
    with _bar("measuring layers", len(large)) as bar:
        importances = measure_weights(network, large, responses, tried, bar.update)
    ranks = choose_ranks(layers, responses, importances, operations * before)
    with _bar("fitting layers", len(layers)) as bar:
        lean = reconstruct(network, layers, responses, ranks, fitted, bar.update)
    data = store_in_eight_bits(export_onnx(lean, side_px).data)
    with torch.no_grad():
        changes = [float((lean(one)[0].sigmoid() - network(one)[0].sigmoid()).abs().mean()) for one in tried]
    write_atomically(output, data, overwrite=overwrite)
    text = describe_model(replace(spec, description=f"{weights.spec.name} with fewer operations"))
    write_atomically(described, text.encode(), overwrite=overwrite)
    facts = {
        "file": str(output),
        "bytes": len(data),
        "operations": round(count_operations(layers, ranks)),
        "operations_before": round(before),
        "mean_difference": round(sum(changes) / len(changes), 5),
    }
    click.echo(json.dumps(facts))


def _bar(label: str, length: int) -> AbstractContextManager[Any]:
    """Return a progress bar on standard error."""
    bar: AbstractContextManager[Any] = click.progressbar(length=length, label=label, file=sys.stderr)
    return bar
