"""The calls that programs for rembg make are answered with what they expect."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.compat import new_session, remove
from cutray.errors import DecodeError, InputError, OptionError
from cutray.matting.foreground import estimate_foreground
from cutray.remover import BackgroundRemover
from tests.conftest import require_weights
from tests.pictures import exif_with, saved, stored_for


@pytest.fixture(scope="module")
def session() -> BackgroundRemover:
    """Return a session with the small model."""
    require_weights("u2netp")
    return new_session("u2netp", offline=True)


@pytest.fixture(scope="module")
def photo(photos: dict[str, np.ndarray]) -> np.ndarray:
    """Return one photo."""
    return photos["coffee"]


@pytest.fixture(scope="module")
def mask(photo: np.ndarray, session: BackgroundRemover) -> np.ndarray:
    """Return its mask."""
    found: np.ndarray = remove(photo, session=session, only_mask=True)
    return found


def test_kind_in_is_kind_out(photo: np.ndarray, session: BackgroundRemover) -> None:
    """Bytes give PNG bytes, a Pillow image an image, an array an array, all with the same pixels."""
    cutout = remove(photo, session=session)
    image = remove(Image.fromarray(photo), session=session)
    data = remove(saved(photo, "PNG"), session=session)
    assert isinstance(cutout, np.ndarray)
    assert isinstance(image, Image.Image)
    assert image.mode == "RGBA"
    written = Image.open(io.BytesIO(data))
    assert (written.format, written.mode) == ("PNG", "RGBA")
    assert np.array_equal(cutout, np.asarray(image))
    assert np.array_equal(cutout, np.asarray(written))


def test_bytes_can_be_forced(photo: np.ndarray, session: BackgroundRemover) -> None:
    """With force_return_bytes an array gives PNG bytes too."""
    assert remove(photo, session=session, force_return_bytes=True)[:8] == b"\x89PNG\r\n\x1a\n"


def test_mask_is_grey(photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """The mask is one channel: mode L for an image, two dimensions for an array, a grey PNG for bytes."""
    assert mask.shape == photo.shape[:2]
    assert mask.dtype == np.uint8
    assert remove(Image.fromarray(photo), session=session, only_mask=True).mode == "L"
    assert Image.open(io.BytesIO(remove(saved(photo, "PNG"), session=session, only_mask=True))).mode == "L"


def test_cutout_keeps_the_photos_colours(photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """Alpha is the mask, visible pixels have the photo's bytes, and hidden ones are black."""
    cutout = remove(photo, session=session)
    assert np.array_equal(cutout[..., 3], mask)
    assert np.array_equal(cutout[..., :3], np.where(mask[..., None] > 0, photo, 0))


@pytest.mark.parametrize("option", ["decontaminate", "alpha_matting"])
def test_clean_edges(option: str, photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """Both options estimate the subject's colours and leave the mask alone."""
    cutout = remove(photo, session=session, **{option: True})
    assert np.array_equal(cutout[..., 3], mask)
    assert np.array_equal(cutout[..., :3], estimate_foreground(photo, mask / np.float32(255)))


def test_processed_mask_is_hard_and_close(photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """A processed mask is 0 or 255 and differs from the plain cut at one half in few pixels."""
    processed = remove(photo, session=session, only_mask=True, post_process_mask=True)
    assert set(np.unique(processed)) <= {0, 255}
    assert ((processed > 0) != (mask > 127)).mean() < 0.02


def test_background_colour(photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """An opaque colour fills the background and the result is still RGBA; a see-through one stays see-through."""
    opaque = remove(photo, session=session, bgcolor=(10, 200, 30, 255))
    assert opaque.shape[2] == 4
    assert (opaque[..., 3] == 255).all()
    assert (opaque[mask == 0] == (10, 200, 30, 255)).all()
    assert np.array_equal(opaque[mask == 255][:, :3], photo[mask == 255])
    assert (remove(photo, session=session, bgcolor=(10, 200, 30, 128))[mask == 0] == (10, 200, 30, 128)).all()
    assert np.array_equal(remove(photo, session=session, bgcolor=(10, 200, 30)), opaque)


def test_photo_with_alpha_stays_transparent(photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """Where the photo was transparent, the cutout is too, and the mask is what it is without."""
    own = np.full(photo.shape[:2], 255, np.uint8)
    own[:, : photo.shape[1] // 2] = 0
    source = np.dstack([photo, own])
    assert np.array_equal(remove(source, session=session, only_mask=True), mask)
    assert np.array_equal(remove(source, session=session)[..., 3], np.where(own > 0, mask, 0))


def test_orientation_is_applied(photo: np.ndarray, session: BackgroundRemover, mask: np.ndarray) -> None:
    """A photo that a camera stored lying gives an upright cutout."""
    data = saved(stored_for(photo, 6), "PNG", exif=exif_with(6))
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(remove(data, session=session)))), remove(photo, session=session)
    )


def test_grey_photos_work(photo: np.ndarray, session: BackgroundRemover) -> None:
    """A grey image of mode L gives an RGBA cutout."""
    assert remove(Image.fromarray(photo).convert("L"), session=session).mode == "RGBA"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only_maks": True}, "only_maks"),
        ({"alpha_matting_foreground_threshold": 256}, "256"),
        ({"alpha_matting_background_threshold": -1}, "-1"),
        ({"alpha_matting_erode_size": -1}, "-1"),
        ({"bgcolor": (1, 2)}, "bgcolor"),
        ({"bgcolor": (1, 2, 3, 300)}, "bgcolor"),
        ({"bgcolor": (0.5, 0.5, 0.5, 1)}, "bgcolor"),
    ],
)
def test_what_has_no_meaning_is_refused(
    options: dict[str, Any], message: str, photo: np.ndarray, session: BackgroundRemover
) -> None:
    """Unknown arguments and impossible values are errors, never ignored."""
    with pytest.raises(OptionError, match=message):
        remove(photo, session=session, **options)


def test_sources_that_are_no_photo_are_refused(session: BackgroundRemover) -> None:
    """Garbage bytes and other types are errors of ours."""
    with pytest.raises(DecodeError):
        remove(b"not a picture", session=session)
    with pytest.raises(InputError, match="type str"):
        remove("photo.jpg", session=session)  # type: ignore[arg-type]


def test_session_arguments() -> None:
    """Providers, thread counts, a path and settings reach the engine; anything else is an error."""
    path = require_weights("u2netp")
    made = new_session(
        "label",
        model_path=str(path),
        providers=["CPUExecutionProvider"],
        sess_opts=SimpleNamespace(intra_op_num_threads=1),
    )
    assert made.segmenter.engine.device == "cpu"
    assert made.segmenter.choice.threads == 1
    assert made.segmenter.engine.precision == "fp32"
    assert made.segmenter.weights.path == path
    for arguments, options in (((1,), {}), ((), {"prviders": []}), ((), {"model": "u2net"})):
        with pytest.raises(OptionError, match="unknown arguments"):
            new_session("u2netp", *arguments, **options)
