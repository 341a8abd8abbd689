"""Which pairs a run learns from, and which are kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.config import DataSettings
from cutray.data.catalog import build_catalog
from cutray.errors import DatasetError
from tests.scenes import write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), 12)


def _settings(*folders: Path, **values: object) -> DataSettings:
    return DataSettings.model_validate({"folders": [str(one) for one in folders], "validation_share": 0.4, **values})


def test_split_is_complete_and_repeatable(folder: Path) -> None:
    """Each pair is on one side, the same one each time; another seed splits otherwise."""
    catalog = build_catalog(_settings(folder), 1)
    names = [Path(pair.image).name for pair in (*catalog.train, *catalog.validation)]
    assert sorted(names) == [f"{number:03}.png" for number in range(12)]
    assert build_catalog(_settings(folder), 1) == catalog
    assert build_catalog(_settings(folder), 2).fingerprint != catalog.fingerprint


def test_copies_stay_together(folder: Path, tmp_path: Path) -> None:
    """A photo that comes again, smaller and as JPEG under another name, is on the same side for every seed."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(12):
        with Image.open(folder / "images" / f"{number:03}.png") as photo:
            photo.resize((64, 64), Image.Resampling.BICUBIC).save(
                tmp_path / "images" / f"again{number}.jpg", quality=70
            )
        with Image.open(folder / "masks" / f"{number:03}.png") as mask:
            mask.resize((64, 64)).save(tmp_path / "masks" / f"again{number}.png")
    for seed in range(4):
        catalog = build_catalog(_settings(folder, tmp_path), seed)
        assert len(catalog.copies) == 12
        held = {Path(pair.image).stem.removeprefix("again").lstrip("0") for pair in catalog.validation}
        learned = {Path(pair.image).stem.removeprefix("again").lstrip("0") for pair in catalog.train}
        assert not held & learned


def test_copies_of_a_named_validation_are_not_learned(folder: Path) -> None:
    """What is in the folder for validation is left out of training, wherever else it lies."""
    with pytest.raises(DatasetError, match="0 pairs to learn from and 12"):
        build_catalog(_settings(folder, validation=str(folder)), 0)


def test_problems_are_listed_together(tmp_path: Path) -> None:
    """Masks of another size and files that are no pictures are all named before anything starts."""
    write_pairs(tmp_path, 4)
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "masks" / "001.png")
    (tmp_path / "images" / "002.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"2 pairs cannot be used: 001\.png has \(96, 96\), its mask \(7, 5\); 002"):
        build_catalog(_settings(tmp_path), 0)


def test_two_folders(folder: Path) -> None:
    """Photos and masks may lie in folders of any name; one without the other is an error."""
    apart = {"image_dir": str(folder / "images"), "mask_dir": str(folder / "masks")}
    assert len(build_catalog(_settings(**apart), 1).train) + len(build_catalog(_settings(**apart), 1).validation) == 12
    with pytest.raises(DatasetError, match="only one of"):
        build_catalog(_settings(image_dir=str(folder / "images")), 1)


def test_limit(folder: Path) -> None:
    """A limit takes that many training pairs and leaves the validation as it is."""
    whole, part = (build_catalog(_settings(folder, limit=limit), 1) for limit in (0, 3))
    assert len(part.train) == 3
    assert set(part.train) < set(whole.train)
    assert part.validation == whole.validation


@pytest.mark.parametrize("slope", [0, 60])
def test_small_products_before_one_plain_background_are_no_copies(tmp_path: Path, slope: int) -> None:
    """On white, or before the same studio wall, most of a photo equals that of every other product."""
    chance = np.random.default_rng(0)
    wall = np.rint(np.full((96, 96, 3), 250.0) - np.linspace(slope, 0, 96)[:, None]).astype(np.uint8)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(40):
        top, left = chance.integers(20, 45, 2)
        height, width = chance.integers(20, 32, 2)
        mask = np.zeros((96, 96), np.uint8)
        mask[top : top + height, left : left + width] = 255
        photo = np.where(mask[..., None] > 0, chance.integers(10, 160, 3, np.uint8), wall)
        Image.fromarray(photo).save(tmp_path / "images" / f"{number:03}.jpg", quality=90)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number:03}.png")
    catalog = build_catalog(_settings(tmp_path), 0)
    assert len(catalog.copies) <= 1
    assert 8 <= len(catalog.validation) <= 24
