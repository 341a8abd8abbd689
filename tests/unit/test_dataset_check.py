"""Masks as labelling tools and phones leave them are understood, or refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.config import AugmentSettings, DataSettings
from cutray.data.catalog import build_catalog
from cutray.data.loading import load_sample, training_samples
from cutray.errors import DatasetError
from cutray.evaluation.dataset_check import CheckedSet, check_samples
from cutray.evaluation.datasets import find_samples, read_ignored, read_truth
from cutray.evaluation.masks import MaskEncoding
from cutray.evaluation.metrics import score

HEIGHT, WIDTH = 60, 90
ORIENTATION = 0x0112
Save = Callable[[np.ndarray, Path], None]


def _disc(height: int = HEIGHT, width: int = WIDTH, row: float = 0.3, column: float = 0.25) -> np.ndarray:
    """Draw a disc away from the middle, (H, W) bool."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.asarray((rows - row * height) ** 2 + (columns - column * width) ** 2 < (0.2 * min(height, width)) ** 2)


def _photo(mask: np.ndarray) -> Image.Image:
    """Draw an orange subject on a blue ground."""
    return Image.fromarray(np.where(mask[..., None], [230, 120, 20], [60, 80, 140]).astype(np.uint8))


def _grey(scale: int, kind: type = np.uint8) -> Save:
    return lambda mask, path: Image.fromarray((mask * scale).astype(kind)).save(path)


def _palette(*colors: int) -> Save:
    def save(mask: np.ndarray, path: Path) -> None:
        picture = Image.fromarray(mask.astype(np.uint8), "L").convert("P")
        picture.putdata(mask.astype(np.uint8).ravel().tolist())
        picture.putpalette(list(colors))
        picture.save(path)

    return save


def _rgba(color: Callable[[np.ndarray], np.ndarray], alpha: Callable[[np.ndarray], np.ndarray]) -> Save:
    def save(mask: np.ndarray, path: Path) -> None:
        grey = np.repeat(color(mask)[..., None], 3, 2)
        Image.fromarray(np.dstack([grey, alpha(mask)]).astype(np.uint8)).save(path)

    return save


def _set(folder: Path, save: Save, masks: list[np.ndarray] | None = None) -> Path:
    """Write a set of two photos."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number, mask in enumerate(masks or [_disc(), _disc(column=0.7)]):
        _photo(mask).save(folder / "images" / f"{number}.png")
        save(mask, folder / "masks" / f"{number}.png")
    return folder


def _check(folder: Path, **wish: object) -> CheckedSet:
    return check_samples(find_samples(folder), MaskEncoding(**wish))


ALL_255: Callable[[np.ndarray], np.ndarray] = lambda mask: np.full(mask.shape, 255)  # noqa: E731
AS_MASK: Callable[[np.ndarray], np.ndarray] = lambda mask: mask * 255  # noqa: E731
FORMS: dict[str, tuple[Save, str]] = {
    "0 and 255": (_grey(255), ""),
    "0 and 1": (_grey(1), "0 and 1"),
    "0 and 200": (_grey(200), "0 and 200"),
    "255 in 16 bits": (_grey(255, np.uint16), "up to 255 in 16 bits"),
    "1 in 16 bits": (_grey(1, np.uint16), "0 and 1"),
    "65535": (_grey(65535, np.uint16), ""),
    "1 bit": (lambda mask, path: Image.fromarray(mask).save(path), ""),
    "color palette": (_palette(0, 0, 0, 128, 0, 0), "palette"),
    "grey palette": (_palette(0, 0, 0, 255, 255, 255), ""),
    "palette of 0 and 1": (_palette(0, 0, 0, 1, 1, 1), "0 and 1"),
    "alpha": (_rgba(lambda mask: mask * 0 + 90, AS_MASK), ""),
    "opaque": (_rgba(AS_MASK, ALL_255), ""),
    "alpha of 0 everywhere": (_rgba(AS_MASK, lambda mask: mask * 0), ""),
    "red on black": (
        lambda mask, path: Image.fromarray(np.dstack([mask * 255, mask * 0, mask * 0]).astype(np.uint8)).save(path),
        "palette",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_masks_are_recognised(form: str, tmp_path: Path) -> None:
    """Whatever two values stand for subject and background, the truth is the same; what was assumed is said."""
    save, note = FORMS[form]
    checked = _check(_set(tmp_path, save))
    for sample, expected in zip(checked.samples, [_disc(), _disc(column=0.7)], strict=True):
        np.testing.assert_array_equal(read_truth(sample), expected.astype(np.float32))
    assert note in "; ".join(checked.notes)
    assert bool(checked.notes) == bool(note)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda mask, path: Image.fromarray((mask * 2 + 1).astype(np.uint8)).save(path), "class numbers"),
        (
            lambda mask, path: Image.fromarray(np.where(mask, 15, np.arange(WIDTH) % 2 * 7).astype(np.uint8)).save(
                path
            ),
            "class numbers",
        ),
        (
            lambda mask, path: Image.fromarray(np.where(mask, 1, np.arange(WIDTH) % 2 * 255).astype(np.uint8)).save(
                path
            ),
            "class numbers",
        ),
        (_rgba(AS_MASK, lambda mask: np.where(np.arange(WIDTH) % 30 > 8, 255, 0) + mask * 0), "alpha channel"),
        (
            lambda mask, path: Image.fromarray((mask * np.arange(WIDTH) * 20).astype(np.uint16)).save(path),
            "no value above",
        ),
    ],
)
def test_masks_that_can_mean_several_things_are_refused(save: Save, message: str, tmp_path: Path) -> None:
    """Class numbers, two masks in one file, and a scale that ends far below white need a word from the user."""
    with pytest.raises(DatasetError, match=message) as caught:
        _check(_set(tmp_path, save))
    assert "subject-value" in str(caught.value) or "save it without" in str(caught.value)


def test_subject_values_settle_it(tmp_path: Path) -> None:
    """Named values are the subject: one class of several, several classes, or the black of an inverted mask."""
    save: Save = lambda mask, path: Image.fromarray(  # noqa: E731
        np.where(mask, 15, np.arange(WIDTH) % 2 * 7).astype(np.uint8)
    ).save(path)
    folder = _set(tmp_path, save)
    np.testing.assert_array_equal(read_truth(_check(folder, subject_values=(15.0,)).samples[0]), _disc())
    both = read_truth(_check(folder, subject_values=(7.0, 15.0)).samples[0])
    np.testing.assert_array_equal(both, _disc() | (np.arange(WIDTH) % 2 > 0))
    np.testing.assert_array_equal(
        read_truth(_check(folder, subject_values=(0.0,)).samples[0]), ~(_disc() | (np.arange(WIDTH) % 2 > 0))
    )


def test_soft_inverted_masks_are_turned_round(tmp_path: Path) -> None:
    """Where an inverted mask is soft, naming 0 as the subject keeps its soft values."""
    soft = np.linspace(0, 1, WIDTH)[None, :] * np.ones((HEIGHT, 1))
    folder = _set(tmp_path, lambda _, path: Image.fromarray(np.rint(255 - soft * 255).astype(np.uint8)).save(path))
    checked = _check(folder, subject_values=(0.0,))
    np.testing.assert_allclose(read_truth(checked.samples[0]), soft, atol=0.003)
    settings = DataSettings.model_validate(
        {"folders": [str(folder)], "validation_scenes": 1, "subject_values": [0], "validation_share": 0.01}
    )
    (spec, *_) = training_samples(build_catalog(settings, 0), settings)
    np.testing.assert_allclose(load_sample(spec, WIDTH)[1][0], soft[0], atol=0.02)


def test_mixed_masks_are_refused(tmp_path: Path) -> None:
    """A set in which one file holds 0 and 1 and another one 0 and 255 is refused with the file's name."""
    folder = _set(tmp_path, _grey(255))
    _grey(1)(_disc(), folder / "masks" / "1.png")
    with pytest.raises(DatasetError, match=r"1 masks hold 0 and 1, .*: 1\.png"):
        _check(folder)


def test_unknown_pixels_are_left_out(tmp_path: Path) -> None:
    """The grey of a trimap counts neither for nor against a prediction."""
    ring = _disc() & ~_disc(column=0.3)
    save: Save = lambda mask, path: Image.fromarray(  # noqa: E731
        np.where(ring, 128, mask * 255).astype(np.uint8)
    ).save(path)
    checked = _check(_set(tmp_path, save, [_disc(), _disc()]))
    assert "128 is taken as unknown" in checked.notes[0]
    truth, ignored = read_truth(checked.samples[0]), read_ignored(checked.samples[0])
    assert ignored is not None
    np.testing.assert_array_equal(ignored, ring)
    scores = score((_disc() & ~ring).astype(np.float32), truth, ignored)
    assert (scores.iou, scores.mae) == (1.0, 0.0)
    assert np.isnan(scores.boundary_f_1px)
    assert score((_disc() & ~ring).astype(np.float32), truth).mae > 0.0
    assert checked.samples == _check(tmp_path, ignore_value=128.0).samples


@pytest.mark.parametrize("subject", [[], ["1"]])
def test_unknown_pixels_are_half_covered_in_training(subject: list[str], tmp_path: Path) -> None:
    """The outline that class masks mark with 255 is neither all subject nor all background."""
    outline = _disc() & ~_disc(column=0.3)
    save: Save = lambda mask, path: Image.fromarray(  # noqa: E731
        np.where(outline, 255, mask).astype(np.uint8)
    ).save(path)
    _set(tmp_path, save, [_disc(), _disc()])
    values = {"folders": [str(tmp_path)], "validation_scenes": 1, "ignore_value": 255, "subject_values": subject}
    settings = DataSettings.model_validate(values)
    catalog = build_catalog(settings, 0)
    for pair in (*catalog.train, *catalog.validation):
        single = replace(catalog, train=(pair,))
        (spec, *_) = training_samples(single, settings)
        _, alpha = load_sample(spec, WIDTH)
        rows, columns = np.nonzero(outline)
        inside = alpha[rows * WIDTH // HEIGHT, columns]
        assert float(np.median(inside)) == pytest.approx(0.5, abs=0.01)
        assert alpha.min() == 0.0
        assert alpha.max() == 1.0


def test_suspicious_sets_are_told(tmp_path: Path) -> None:
    """Masks that are nearly all empty, nearly all full, or white along the border are pointed out."""
    for name, masks in (("empty", [_disc() * False] * 10), ("full", [~(_disc() * False)] * 10)):
        (tmp_path / name).mkdir()
        (warning,) = _check(_set(tmp_path / name, _grey(255), masks)).warnings
        assert warning.startswith(f"10 of 10 masks are {'empty' if name == 'empty' else 'all subject'}")
    (tmp_path / "inverted").mkdir()
    inverted = _set(tmp_path / "inverted", lambda mask, path: Image.fromarray(~mask).save(path))
    assert _check(inverted).looks_inverted
    assert not _check(inverted, subject_values=(0.0,)).looks_inverted
    (tmp_path / "right").mkdir()
    right = _check(_set(tmp_path / "right", _grey(255)))
    assert not right.warnings and not right.looks_inverted


def _turned(folder: Path, orientation: int, *, upright: bool, height: int, width: int, suffix: str = ".jpg") -> Path:
    """Write a set of two photos that are stored turned, with masks as stored or as one sees the photo."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    folder.mkdir()
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(2):
        mask = _disc(height, width, column=0.25 + 0.1 * number)
        _photo(mask).save(folder / "images" / f"{number}{suffix}", exif=exif, quality=95)
        stored = Image.fromarray(mask)
        if upright:
            tag = Image.new("L", stored.size)
            tag.paste(stored)
            tag.getexif()[ORIENTATION] = orientation
            from PIL import ImageOps

            stored = ImageOps.exif_transpose(tag).convert("L")
        stored.convert("L").save(folder / "masks" / f"{number}.png")
    return folder


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (WIDTH, WIDTH)])
@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_on_turned_photos(orientation: int, upright: bool, shape: tuple[int, int], tmp_path: Path) -> None:
    """For each EXIF orientation and both layouts, masks of evaluation and of training lie on the upright photo."""
    height, width = shape
    for suffix in (".jpg", ".png", ".webp"):
        folder = _turned(tmp_path / suffix, orientation, upright=upright, height=height, width=width, suffix=suffix)
        settings = DataSettings.model_validate({"folders": [str(folder)], "validation_scenes": 1})
        catalog = build_catalog(settings, 0)
        pairs = {pair.image: pair for pair in (*catalog.train, *catalog.validation)}
        for sample in check_samples(find_samples(folder)).samples:
            pair = pairs[str(sample.image)]
            assert (pair.encoding, pair.turn) == (sample.encoding, sample.turn)
        for spec in training_samples(catalog, settings):
            image, alpha = load_sample(spec, 64)
            orange = image[..., 0].astype(int) > image[..., 2]
            both = (orange & (alpha > 0.5)).sum() / (orange | (alpha > 0.5)).sum()
            assert both > 0.9


def test_a_mask_turned_by_its_own_orientation(tmp_path: Path) -> None:
    """A mask with an orientation of its own is turned by that, and then lies on the upright photo."""
    folder = _turned(tmp_path / "set", 6, upright=False, height=HEIGHT, width=WIDTH)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for path in (folder / "masks").iterdir():
        with Image.open(path) as mask:
            mask.load()
        mask.save(path, exif=exif)
    for sample in check_samples(find_samples(folder)).samples:
        assert sample.turn == 1
        assert read_truth(sample, shape=(WIDTH, HEIGHT)).mean() == pytest.approx(_disc().mean(), rel=0.1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_photos_are_paired(orientation: int, tmp_path: Path) -> None:
    """A HEIC is turned as its container says and no further; a mask of another size is named before any work."""
    heif = pytest.importorskip("pillow_heif")
    folder = _set(tmp_path, _grey(255))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for number, mask in enumerate([_disc(), _disc(column=0.7)]):
        (folder / "images" / f"{number}.png").unlink()
        stored = _photo(mask if orientation == 1 else np.rot90(mask, 1))
        try:
            heif.from_pillow(stored).save(folder / "images" / f"{number}.heic", exif=exif.tobytes())
        except (RuntimeError, ValueError, OSError):
            pytest.skip("this build of pillow_heif cannot write")
    for sample, expected in zip(_check(folder).samples, [_disc(), _disc(column=0.7)], strict=True):
        np.testing.assert_array_equal(read_truth(sample, shape=(HEIGHT, WIDTH)), expected.astype(np.float32))
    Image.fromarray(np.zeros((HEIGHT, HEIGHT), np.uint8)).save(folder / "masks" / "1.png")
    with pytest.raises(DatasetError, match=r"1\.heic has \(90, 60\), its mask \(60, 60\)"):
        _check(folder)


def test_turned_photos_whose_masks_fit_both_ways(tmp_path: Path) -> None:
    """Where photo and mask do not tell which way is meant, the set is refused with what to do."""
    folder = _turned(tmp_path / "set", 6, upright=True, height=WIDTH, width=WIDTH)
    for path in (folder / "images").iterdir():
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        Image.new("RGB", (WIDTH, WIDTH), (90, 90, 90)).save(path, exif=exif)
    with pytest.raises(DatasetError, match=r"fit both ways: 0\.jpg, 1\.jpg.*auto-orient"):
        check_samples(find_samples(folder))


def test_backgrounds_of_turned_photos_show_no_subject(tmp_path: Path) -> None:
    """The background that another sample gets is cut beside the upright subject."""
    folder = _turned(tmp_path / "set", 6, upright=False, height=HEIGHT, width=WIDTH)
    settings = DataSettings.model_validate({"folders": [str(folder)], "validation_scenes": 1})
    augmentation = AugmentSettings.model_validate(
        dict.fromkeys(("flip", "crop", "warp", "color", "low_light", "grey", "blur", "noise", "jpeg"), 0.0)
        | {"new_background": 1.0}
    )
    for spec in training_samples(build_catalog(settings, 0), settings):
        image, alpha = load_sample(spec, 64, augmentation=augmentation)
        orange = image[..., 0].astype(int) > image[..., 2]
        assert (orange & (alpha < 0.1)).mean() < 0.02
