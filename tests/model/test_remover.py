"""The chain from photo to cutout, with a real network: same pixels whatever the way in, and honest answers."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from PIL import Image

from cutray import remove
from cutray.errors import ConfigError, CutrayError, DecodeError, InputError, OptionError, OutputError, OutputExistsError
from cutray.remover import BackgroundRemover, Removal
from tests.conftest import require_weights
from tests.pictures import differ, exif_with, saved, stored_for


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the overlap of two masks cut at one half."""
    one, two = first > 127, second > 127
    return float((one & two).sum() / max((one | two).sum(), 1))


@pytest.fixture(scope="module")
def photo(photos: dict[str, np.ndarray]) -> np.ndarray:
    """Return a photo with a clear subject."""
    return photos["coffee"]


@pytest.fixture(scope="module")
def removal(photo: np.ndarray, remover: BackgroundRemover) -> Removal:
    """Return its removal with all defaults."""
    return remover.remove_background(photo)


def test_every_way_in_gives_the_same_pixels(
    photo: np.ndarray, removal: Removal, remover: BackgroundRemover, tmp_path: Path
) -> None:
    """A path, bytes, a Pillow image and an array of the same photo give the same cutout and mask."""
    data = saved(photo, "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), Image.fromarray(photo)):
        cutout, mask = remover.remove_background(source)
        assert np.array_equal(np.asarray(cutout), removal.cutout)
        assert np.array_equal(np.asarray(mask), removal.mask)
        assert isinstance(cutout, Image.Image) == isinstance(source, Image.Image)


def test_subject_is_found_with_a_report(photo: np.ndarray, removal: Removal) -> None:
    """The pair unpacks, has the photo's size, and the report says what was found, by which model and how fast."""
    cutout, mask = removal
    assert cutout.shape == (*photo.shape[:2], 4)
    assert np.array_equal(cutout[..., 3], mask)
    report = removal.report
    assert report.subject_found
    assert report.confidence > 0.7
    assert report.area_fraction == pytest.approx((mask > 127).mean(), abs=0.02)
    assert (report.height_px, report.width_px) == photo.shape[:2]
    assert report.model == "u2netp"
    assert set(report.timings_ms) == {"decode", "segment", "matte", "render", "encode"}


def test_encoded_file_holds_the_same_picture(removal: Removal) -> None:
    """`.data` is a PNG of the cutout."""
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(removal.data))), removal.cutout)


def test_result_survives_pickling(removal: Removal) -> None:
    """A result can be sent between processes with all its attributes."""
    copy = pickle.loads(pickle.dumps(removal))
    assert np.array_equal(copy.cutout, removal.cutout)
    assert (copy.report, copy.data) == (removal.report, removal.data)


def test_corners_are_clear_and_subject_is_opaque(removal: Removal) -> None:
    """The cup is fully opaque in its middle, and the far corners are fully transparent."""
    mask = removal.mask
    assert mask[180:240, 230:330].min() == 255
    assert mask[:5, :5].max() == 0


@pytest.mark.parametrize("name", ["out.png", "out.webp", "out.avif", "out.tiff", "deep/er/out.PNG"])
def test_destination_names_the_format(
    name: str, photo: np.ndarray, removal: Removal, remover: BackgroundRemover, tmp_path: Path
) -> None:
    """The file is of the type its ending says, made in folders that need not exist, and has the mask as alpha."""
    remover.remove_background(photo, tmp_path / name)
    written = Image.open(tmp_path / name)
    wanted = Path(name).suffix[1:].upper()
    assert written.format == wanted
    difference = np.abs(np.asarray(written)[..., 3].astype(int) - removal.mask)
    assert difference.mean() <= (1 if wanted == "AVIF" else 0)


def test_bad_destinations_cost_nothing(photo: np.ndarray, remover: BackgroundRemover, tmp_path: Path) -> None:
    """A format that cannot be, a file that exists, or a folder in the way is an error, and nothing is written."""
    for name in ("out.jpg", "out.gif", "out"):
        with pytest.raises(OptionError):
            remover.remove_background(photo, tmp_path / name)
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        remover.remove_background(photo, taken, overwrite=False)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError):
        remover.remove_background(photo, tmp_path / "folder.png")
    assert taken.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "taken.png"]


def test_options_of_one_call(photo: np.ndarray, removal: Removal, remover: BackgroundRemover, tmp_path: Path) -> None:
    """Options change one call and leave the next one alone."""
    remover.remove_background(photo, tmp_path / "white.jpg", background="white")
    assert Image.open(tmp_path / "white.jpg").mode == "RGB"
    cropped = remover.remove_background(photo, crop=True)
    left, top, right, bottom = cropped.report.box
    assert cropped.cutout.shape[:2] == (bottom - top, right - left)
    assert np.array_equal(cropped.mask, removal.mask[top:bottom, left:right])
    assert remover.remove_background(photo, only_mask=True).cutout.ndim == 2
    assert remover.remove_background(photo, bit_depth=16).cutout.dtype == np.uint16
    assert np.array_equal(remover.remove_background(photo).cutout, removal.cutout)


def test_unknown_options_are_refused(photo: np.ndarray, remover: BackgroundRemover) -> None:
    """A misspelled option is an error with the right spelling; the model cannot be changed per call."""
    with pytest.raises(ConfigError, match="did you mean 'threshold'"):
        remover.remove_background(photo, treshold=0.5)
    with pytest.raises(ConfigError, match="did you mean 'only_mask'"):
        list(remover.remove_many([photo], only_masks=True))
    for option in ({"model": "u2net"}, {"engine": "onnxruntime"}, {"threads": 1}):
        with pytest.raises(OptionError, match="when the remover is made"):
            remover.remove_background(photo, **option)
    with pytest.raises(ConfigError, match="did you mean 'precision'"):
        BackgroundRemover("u2netp", precison="fp32")


def test_sources_that_are_no_photo_are_refused(remover: BackgroundRemover, tmp_path: Path) -> None:
    """Missing files, folders, garbage and other types are input errors."""
    for source in (tmp_path / "missing.jpg", tmp_path, 7, None):
        with pytest.raises(InputError):
            remover.remove_background(source)  # type: ignore[arg-type]
    with pytest.raises(DecodeError):
        remover.remove_background(b"GARBAGE")


def test_many_equal_one_by_one(photos: dict[str, np.ndarray], remover: BackgroundRemover) -> None:
    """A stream of photos with a bad file in it gives, in order, what each gives alone, and the error in its place."""
    pixels = list(photos.values())
    sources: list[Any] = [pixels[0], saved(pixels[1], "PNG"), b"not a picture", Image.fromarray(pixels[2]), pixels[3]]
    results = list(remover.remove_many(iter(sources), crop=True))
    assert len(results) == len(sources)
    assert isinstance(results[2], DecodeError)
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, CutrayError):
            continue
        alone = remover.remove_background(source, crop=True)
        assert np.array_equal(np.asarray(result.cutout), np.asarray(alone.cutout))
        assert result.data == alone.data


def test_many_are_read_lazily(photo: np.ndarray, remover: BackgroundRemover) -> None:
    """An endless stream is fine: not more than one batch is taken ahead."""
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield photo[::4, ::4]

    results = remover.remove_many(endless())
    next(results)
    assert taken <= remover.settings.batch_size


def _sky() -> np.ndarray:
    """Draw a sky with soft clouds."""
    noise = np.random.default_rng(4).uniform(0, 1, (6, 8)).astype(np.float32)
    clouds = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC).clip(0, 1)[..., None]
    return (np.float32([110, 160, 225]) * (1 - 0.4 * clouds) + 255 * 0.4 * clouds).astype(np.uint8)


EMPTY_SCENES = {
    "black": np.zeros((300, 400, 3), np.uint8),
    "grey": np.full((300, 400, 3), 128, np.uint8),
    "white": np.full((300, 400, 3), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
    "gradient": np.repeat(np.tile(np.linspace(0, 255, 400).astype(np.uint8), (300, 1))[..., None], 3, axis=2),
    "sky": _sky(),
}


@pytest.mark.parametrize("scene", EMPTY_SCENES)
def test_empty_scene_has_no_subject(scene: str, remover: BackgroundRemover) -> None:
    """Where nothing is, the answer is "no subject" and a fully transparent cutout, not a mask of noise."""
    removal = remover.remove_background(EMPTY_SCENES[scene])
    assert not removal.report.subject_found
    assert removal.mask.max() == 0
    assert removal.cutout.max() == 0


@pytest.mark.parametrize(("name", "overlap"), [("coffee", 0.93), ("chelsea", 0.8)])
def test_mirrored_photo_gives_the_mirrored_mask(
    name: str, overlap: float, photos: dict[str, np.ndarray], remover: BackgroundRemover
) -> None:
    """A mirrored photo has the mirrored subject, as far as a small network is symmetric."""
    mask = remover.remove_background(photos[name]).mask
    mirrored = remover.remove_background(np.ascontiguousarray(photos[name][:, ::-1])).mask
    assert _iou(mask, mirrored[:, ::-1]) >= overlap


@pytest.mark.parametrize("gain", [0.7, 1.2])
def test_brightness_changes_little(
    gain: float, photo: np.ndarray, removal: Removal, remover: BackgroundRemover
) -> None:
    """A darker or brighter photo has the same subject."""
    changed = np.clip(photo * gain, 0, 255).astype(np.uint8)
    assert _iou(remover.remove_background(changed).mask, removal.mask) >= 0.93


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_makes_no_difference(
    orientation: int, photo: np.ndarray, removal: Removal, remover: BackgroundRemover
) -> None:
    """However a camera holds the photo, the mask is the upright photo's, and no tag turns it again."""
    data = saved(stored_for(photo, orientation), "PNG", exif=exif_with(orientation))
    turned = remover.remove_background(data)
    assert np.array_equal(turned.mask, removal.mask)
    assert not Image.open(io.BytesIO(turned.data)).getexif()


def test_threads_may_share_a_remover(photos: dict[str, np.ndarray], remover: BackgroundRemover) -> None:
    """Four threads at once get what one gets."""
    pixels = [photo[::2, ::2] for photo in photos.values()]
    alone = [remover.remove_background(photo) for photo in pixels]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(remover.remove_background, pixels))
    assert not any(map(differ, together, alone))


def test_shortest_call(photo: np.ndarray) -> None:
    """`cutray.remove` does the same in one call."""
    require_weights("u2netp")
    cutout, mask = remove(photo, model="u2netp")
    expected = BackgroundRemover("u2netp").remove_background(photo)
    assert np.array_equal(cutout, expected.cutout)
    assert np.array_equal(mask, expected.mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 2), (40, 3000)])
def test_odd_shapes_pass(shape: tuple[int, int], remover: BackgroundRemover) -> None:
    """Photos of one pixel, one row or huge aspect ratio get an answer of their size."""
    removal = remover.remove_background(np.full((*shape, 3), 90, np.uint8))
    assert removal.cutout.shape == (*shape, 4)


def test_compat_computes_in_fp32() -> None:
    """The classic recipe promises equal masks, so it does not round to bf16 unless asked to."""
    assert BackgroundRemover("u2netp", compat=True).settings.precision == "fp32"
    assert BackgroundRemover("u2netp").settings.precision == "auto"


def test_results_are_corrected_without_another_pass(remover: BackgroundRemover, photo_files: Path) -> None:
    """Marks of several calls add up, give what one call with all of them gives, and never ask the network."""
    photo = photo_files / "astronaut.jpg"
    first = remover.remove_background(photo, box="10%,0%,90%,100%")
    network, remover.segmenter = remover.segmenter, cast(Any, None)
    try:
        second = first.refine(drop=[(200, 150)]).refine(keep="5,5")
    finally:
        remover.segmenter = network
    whole = remover.remove_background(photo, box="10%,0%,90%,100%", drop="200,150", keep="5,5")
    assert np.array_equal(second.mask, whole.mask)
    assert second.mask[150, 200] == 0
    assert second.mask[5, 5] == 255
    assert second.report.objects == whole.report.objects
    with pytest.raises(OptionError, match="nothing is kept"):
        pickle.loads(pickle.dumps(first)).refine(keep="5,5")


def test_the_only_mark_is_taken_back(remover: BackgroundRemover, photo_files: Path) -> None:
    """A point that was kept and is dropped later leaves the box and what is dropped."""
    photo, box = photo_files / "astronaut.jpg", "10%,5%,90%,95%"
    marked = remover.remove_background(photo, box=box, keep="200,150")
    taken_back = marked.refine(drop="200,150")
    assert np.array_equal(taken_back.mask, remover.remove_background(photo, box=box, drop="200,150").mask)
