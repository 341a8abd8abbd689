"""Packs what a machine without a network needs: photos at the network's size, weights, runs to go on with, wheels."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cutray.data.augment import resize_pair
from cutray.engines.hardware import usable_cores
from cutray.errors import InputError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import Sample, find_samples, read_truth
from cutray.imaging.decode import decode_image
from cutray.imaging.files import write_atomically
from cutray.models.weights import resolve
from pipelines.gpu_kit.parts import PART_BYTES, join_parts, loads, write_parts

# A call brings so much at most, with the code beside it.
LOAD_BYTES = 22 << 20
_WEBP_QUALITY = 90
_AT_A_TIME = 64
QUEUE_FILE = "queue.json"
SCRIPT_FILE = "there.sh"
# What is typed on the machine, once for each load; with a time, the queue is done as well.
_SCRIPT = """# In the folder of the code: sh LOAD/there.sh OUTPUT [SECONDS]
# Takes this load in; with SECONDS, then spends them on the queue, and what is to come back is in OUTPUT.
set -e
here=$(dirname "$0")
python=${PYTHON:-python3}
if ls "$here"/*.whl >/dev/null 2>&1; then
    $python -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site "$here"/*.whl
fi
export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}/tmp/site:platform:." PYTHONUNBUFFERED=1
work=${WORK:-/tmp/work}
$python -m pipelines.gpu_kit receive "$here" --work "$work"
if [ -n "$2" ]; then
    $python -m pipelines.gpu_kit run --work "$work" -o "$1" --seconds "$2"
fi
"""


def pack_kit(
    kit: Path,
    *,
    queue: Path,
    data: Sequence[tuple[str, Path]] = (),
    models: Sequence[str] = (),
    runs: Sequence[Path] = (),
    wheels: Path | None = None,
    side_px: int = 320,
    load_bytes: int = LOAD_BYTES,
) -> list[Path]:
    """Write a kit as folders, each of which one transfer can carry.

    Args:
        kit: A new folder.
        queue: What is to be done, as ``Queue`` writes it (JSON).
        data: Names and folders of photos with masks; photos become WebP of ``side_px``, stretched to a square.
        models: Names of weights.
        runs: Folders of runs to go on with.
        wheels: Folder of wheels that the machine lacks.
        side_px: Side of the packed photos.
        load_bytes: Largest size of one transfer.

    Returns:
        The folders ``load-1`` and so on, each with a script that takes it in.

    Raises:
        DatasetError: Photos and masks cannot be used.
        InputError: The folder is there already.
    """
    if kit.exists():
        raise InputError(got=f"{kit} is there already", fix="name a new folder")
    part_bytes = min(PART_BYTES, load_bytes)
    with tempfile.TemporaryDirectory() as scratch:
        inbox = Path(scratch)
        parts = write_parts(queue, QUEUE_FILE, inbox, part_bytes)
        # As they are: they have to be installed before anything else there can run.
        parts += [Path(shutil.copy(wheel, inbox)) for wheel in (sorted(wheels.glob("*.whl")) if wheels else ())]
        for run_dir in runs:
            for file in _of_run(run_dir):
                parts += write_parts(file, f"runs/{run_dir.name}/{file.relative_to(run_dir)}", inbox, part_bytes)
        for name, folder in data:
            samples = check_samples(find_samples(folder)).samples
            for number, archive in enumerate(_archives(samples, side_px, part_bytes)):
                packed = inbox / "archive"
                write_atomically(packed, archive, overwrite=True)
                parts += write_parts(packed, f"packed/{name}/{number:03}.zip", inbox, part_bytes)
        for model in models:
            found = resolve(model)
            if not found.spec.packaged:
                parts += write_parts(found.path, f"home/models/{found.path.name}", inbox, part_bytes)
        folders = []
        for number, group in enumerate(loads(parts, load_bytes), 1):
            folders.append(kit / f"load-{number}")
            folders[-1].mkdir(parents=True)
            for part in group:
                shutil.move(part, folders[-1] / part.name)
            write_atomically(folders[-1] / SCRIPT_FILE, _SCRIPT.encode())
    return folders


def receive(folders: Sequence[Path], work: Path) -> list[str]:
    """Take transfers in on the machine; they may come one after another.

    Args:
        folders: Those that ``pack_kit`` wrote.
        work: Folder to work in; what came before is kept there.

    Returns:
        Names of files of which parts are still missing.
    """
    inbox = work / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for part in folder.glob("*.part"):
            shutil.copyfile(part, inbox / part.name)
    files, missing = join_parts([inbox], work)
    for archive in (file for file in files if file.suffix == ".zip"):
        target = work / "data" / archive.parent.name
        with zipfile.ZipFile(archive) as stored:
            stored.extractall(target)
    return missing


def _archives(samples: Sequence[Sample], side_px: int, most_bytes: int) -> Iterator[bytes]:
    """Pack photos and masks into archives of a limited size."""
    buffer, stored = io.BytesIO(), None
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(samples), _AT_A_TIME):
            chunk = range(start, min(start + _AT_A_TIME, len(samples)))
            for number, photo, mask in pool.map(lambda index: _small(samples[index], index, side_px), chunk):
                if stored is not None and buffer.tell() + len(photo) + len(mask) > most_bytes - 65536:
                    stored.close()
                    yield buffer.getvalue()
                    buffer, stored = io.BytesIO(), None
                stored = stored or zipfile.ZipFile(buffer, "w")
                stored.writestr(f"images/{number:06}.webp", photo)
                stored.writestr(f"masks/{number:06}.png", mask)
    if stored is not None:
        stored.close()
        yield buffer.getvalue()


def _small(sample: Sample, number: int, side_px: int) -> tuple[int, bytes, bytes]:
    """Encode a photo and its mask at the network's size."""
    image = decode_image(sample.image.read_bytes()).pixels
    image, alpha = resize_pair(image, read_truth(sample, shape=image.shape[:2]), side_px)
    photo = io.BytesIO()
    Image.fromarray(image).save(photo, "WEBP", quality=_WEBP_QUALITY, method=4)
    mask = cv2.imencode(".png", np.rint(alpha * 255).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return number, photo.getvalue(), mask.tobytes()


def _of_run(run_dir: Path) -> list[Path]:
    """List what is needed to go on with a run: its settings and its newest checkpoint."""
    newest = sorted(run_dir.glob("checkpoint_[0-9]*"))[-1:]
    return [run_dir / "settings.json", *(file for folder in newest for file in sorted(folder.iterdir()))]
