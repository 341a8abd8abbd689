"""What photos are like, in histograms, and when they differ from those that a network was trained on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from cutray.errors import InputError
from cutray.evaluation.drift import (
    BOUNDS,
    Fingerprint,
    compare,
    features_of,
    fingerprint_path,
    kolmogorov_smirnov,
    population_stability_index,
    read_fingerprint,
)
from cutray.evaluation.photo_features import PhotoFeatures, measure_photo
from cutray.imaging.encode import encode_image
from pipelines.drift.fingerprint import photos_of

SCENE = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)


def _scene(width: int, height: int) -> np.ndarray:
    return cv2.resize(SCENE, (width, height), interpolation=cv2.INTER_LINEAR)


def _population(seed: int, photos: int, *, darker: float = 0.0, fewer: float = 0.0) -> Fingerprint:
    rng = np.random.default_rng(seed)
    made = Fingerprint()
    for _ in range(photos):
        brightness = float(np.clip(rng.normal(0.55 - darker, 0.12), 0, 1))
        measured = PhotoFeatures(brightness, float(rng.lognormal(6, 1)), float(rng.lognormal(0.5, 0.8)))
        found = rng.random() > 0.05 + fewer
        cases = ["fine_detail"] if rng.random() < 0.3 else []
        values = features_of(measured, found=found, confidence=rng.beta(8, 2), area=rng.beta(2, 4), edge_cases=cases)
        made.add_all(values)
    return made


def test_masks_are_no_photos(tmp_path: Path) -> None:
    """In a folder with photos and masks only the photos count, also where one lacks its mask, in any known layout."""
    for name in ("images/a.png", "images/b.png", "masks/a.png", "Other-Image/c.jpg", "Other-Mask/c.png", "d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_image(SCENE, "JPEG" if path.suffix == ".jpg" else "PNG"))
    assert [path.name for path in photos_of(tmp_path)] == ["a.png", "b.png", "c.jpg"]
    assert [path.name for path in photos_of(tmp_path / "masks")] == ["a.png"]
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    (tmp_path / "Other-Mask" / "c.png").rename(tmp_path / "masks" / "c.png")
    (tmp_path / "Other-Mask").rmdir()
    with pytest.raises(InputError, match="no photos"):
        photos_of(tmp_path)


def test_brightness_is_the_mean_luma() -> None:
    """Black is 0, white 1, and pure green as bright as BT.601 says."""
    for color, expected in (((0, 0, 0), 0.0), ((255, 255, 255), 1.0), ((0, 255, 0), 0.587)):
        assert measure_photo(np.full((50, 70, 3), color, np.uint8)).brightness == pytest.approx(expected, abs=0.003)


def test_sharpness_falls_with_blur_and_hardly_changes_with_size() -> None:
    """The same scene twice as large is about as sharp; blurred it has a fraction of that."""
    sharp, large = measure_photo(_scene(800, 600)), measure_photo(_scene(1600, 1200))
    blurred = measure_photo(cv2.GaussianBlur(_scene(800, 600), (0, 0), 12))
    assert large.sharpness == pytest.approx(sharp.sharpness, rel=0.3)
    assert blurred.sharpness < sharp.sharpness / 4
    assert large.megapixels == pytest.approx(1.92)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (3000, 2, 3), (7, 9, 3)])
def test_any_shape_can_be_measured(shape: tuple[int, int, int]) -> None:
    """Photos of a pixel and of a line have finite numbers too."""
    measured = measure_photo(np.full(shape, 128, np.uint8))
    assert measured.brightness == pytest.approx(0.502, abs=0.01) and math.isfinite(measured.sharpness)


def test_buckets_are_those_of_prometheus() -> None:
    """A value on a bound belongs to the bucket below it; one above all has a bucket; what is not finite is left out."""
    made = Fingerprint()
    for value in (0.0, 0.05, 0.051, 1.0, math.nan, math.inf):
        made.add("brightness", value)
    assert made.counts["brightness"].tolist() == [2, 1] + [0] * 17 + [1]
    assert all(list(bounds) == sorted(set(bounds)) for bounds in BOUNDS.values())


def test_photos_without_a_subject_have_no_confidence() -> None:
    """They count in the share of photos without one, and edge cases only where somebody looked for them."""
    values = features_of(None, found=False, confidence=0.1, area=0.0)
    assert values == {"no_subject": 1.0}
    seen = features_of(None, found=True, confidence=0.9, area=0.2, edge_cases=["texture"])
    assert seen["texture"] == 1 and seen["fine_detail"] == 0 and seen["confidence"] == 0.9


def test_the_same_kind_of_photos_does_not_drift() -> None:
    """Of 20 samples of one population, none is told to have drifted in any feature."""
    reference = _population(0, 1000)
    verdicts = [one.verdict for seed in range(1, 21) for one in compare(reference, _population(seed, 300))]
    assert set(verdicts) == {"same"}


def test_darker_photos_drift_in_brightness_alone() -> None:
    """The feature that changed is named, with medians on both sides, and no other one."""
    found = {one.feature: one for one in compare(_population(0, 1000), _population(9, 400, darker=0.2))}
    assert found["brightness"].verdict == "drifted" and found["brightness"].p_value < 1e-6
    assert found["brightness"].reference == pytest.approx(0.55, abs=0.03)
    assert found["brightness"].live == pytest.approx(0.35, abs=0.03)
    assert {one.verdict for name, one in found.items() if name != "brightness"} == {"same"}


def test_more_photos_without_a_subject_are_noticed() -> None:
    """A share that rises from 5 to 45 % has drifted; the numbers are the shares."""
    found = {one.feature: one for one in compare(_population(0, 1000), _population(3, 400, fewer=0.4))}
    assert found["no_subject"].verdict == "drifted"
    assert found["no_subject"].live - found["no_subject"].reference == pytest.approx(0.4, abs=0.06)


def test_few_photos_say_nothing() -> None:
    """Below a hundred photos there is no verdict, however different they are."""
    verdicts = {one.verdict for one in compare(_population(0, 1000), _population(1, 99, darker=0.4))}
    assert verdicts == {"few"}


def test_statistics_agree_with_scipy() -> None:
    """D and p are those of the exact test on values that lie on the buckets; the index is the textbook's sum."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    one, two = rng.binomial(15, 0.5, 800), rng.binomial(15, 0.53, 600)
    first, second = np.bincount(one, minlength=16), np.bincount(two, minlength=16)
    theirs = stats.ks_2samp(one, two, method="asymp")
    distance, p_value = kolmogorov_smirnov(first, second)
    assert distance == pytest.approx(theirs.statistic, abs=1e-9)
    assert p_value == pytest.approx(theirs.pvalue, rel=0.2)
    p, q = np.array([0.5, 0.5]), np.array([0.2, 0.8])
    expected = float(((p - q) * np.log(p / q)).sum())
    counts = [(share * 1_000_000).astype(np.int64) for share in (p, q)]
    assert population_stability_index(*counts) == pytest.approx(expected, rel=1e-4)


def test_a_fingerprint_survives_its_file(tmp_path: Path) -> None:
    """It is read as it was written, from beside the weights."""
    made = _population(5, 50)
    made.made_from = "50 photos"
    path = fingerprint_path(tmp_path / "shoes.onnx")
    assert path.name == "shoes.fingerprint.json"
    path.write_text(made.as_json())
    read = read_fingerprint(path)
    assert read.made_from == "50 photos" and read.photos() == 50
    assert {name: counts.tolist() for name, counts in read.counts.items()} == {
        name: counts.tolist() for name, counts in made.counts.items()
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: "no JSON",
        lambda whole: "[]",
        lambda whole: json.dumps({**whole, "format": 99}),
        lambda whole: json.dumps({**whole, "histograms": {"brightness": {"le": [1], "counts": [1, 2]}}}),
        lambda whole: json.dumps({**whole, "histograms": {"colour": {"le": [1], "counts": [1, 2]}}}),
        lambda whole: json.dumps({**whole, "histograms": {"texture": {"le": [0.5], "counts": [-1, 2]}}}),
        lambda whole: json.dumps({**whole, "histograms": {"texture": {"le": [0.5], "counts": [1]}}}),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: object) -> None:
    """No JSON, another format, unknown features, other buckets and negative counts are one clear error."""
    path = tmp_path / "f.json"
    whole = json.loads(_population(5, 3).as_json())
    path.write_text(change(whole))  # type: ignore[operator]
    with pytest.raises(InputError, match=r"make it anew|Make it anew"):
        read_fingerprint(path)
