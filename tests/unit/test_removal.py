"""A result by itself: it shows itself in notebooks, says what it is in a line, saves itself, and travels."""

from __future__ import annotations

import copy
import io
import os
import pickle
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from cutray.errors import ConfigError, OptionError, OutputExistsError
from cutray.imaging.encode import encode_image
from cutray.imaging.metadata import StoredMetadata, select_metadata
from cutray.removal import Removal, RemovalReport


def _removal(
    height: int = 900, width: int = 1200, channels: int = 4, dtype: type = np.uint8, **encoding: object
) -> Removal:
    """Make a result whose left half is red and opaque; the rest is transparent."""
    full = np.iinfo(dtype).max
    cutout = np.zeros((height, width, channels), dtype)
    cutout[:, : width // 2, 0] = full
    cutout[:, : width // 2, 3:] = full
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    report = RemovalReport(True, 0.93, 0.5, width, height, (0, 0, width, height), "u2net", "openvino cpu bf16")
    return Removal(cutout, mask, report, encode_image(cutout, "PNG", **encoding))


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_notebook_shows_a_small_picture_on_a_checkerboard(dtype: type) -> None:
    """The preview is small whatever the size of the cutout, and no pixel is transparent."""
    preview = _opened(_removal(dtype=dtype)._repr_png_())
    assert preview.size == (480, 360) and preview.mode == "RGB"
    pixels = np.asarray(preview)
    assert (pixels[5, 5] == (255, 0, 0)).all()
    assert {int(value) for value in np.unique(pixels[:, 300:])} == {204, 255}


@pytest.mark.parametrize("removal", [_removal().as_pillow(), _removal(channels=3), _removal(3, 1), _removal(1, 5000)])
def test_every_kind_of_cutout_has_a_preview(removal: Removal) -> None:
    """Pillow images, pictures without transparency, and odd shapes."""
    assert max(_opened(removal._repr_png_()).size) <= 480


def test_a_mask_alone_has_a_preview_and_a_line() -> None:
    """A grey cutout, as `only_mask` gives it."""
    one = _removal()
    grey = Removal(one.mask, one.mask, one.report, encode_image(one.mask, "PNG"))
    assert _opened(grey._repr_png_()).mode == "L"
    assert "1200×900" in repr(grey)


def test_its_repr_is_one_short_line() -> None:
    """Not the arrays."""
    assert repr(_removal()) == "<Removal 1200×900 px: subject with confidence 0.93, u2net on openvino cpu bf16>"
    empty = _removal()
    empty.report.subject_found = False
    assert "no subject" in repr(empty)


@pytest.mark.parametrize(("name", "format"), [("a.png", "PNG"), ("b.webp", "WEBP"), ("c.TIFF", "TIFF")])
def test_it_saves_itself_in_the_format_of_the_ending(tmp_path: Path, name: str, format: str) -> None:
    """The same pixels in each."""
    removal = _removal()
    removal.save(tmp_path / "new" / name)
    with Image.open(tmp_path / "new" / name) as saved:
        assert saved.format == format
        assert (np.asarray(saved.convert("RGBA"))[..., 3] == removal.mask).all()
    if format == "PNG":
        assert (tmp_path / "new" / name).read_bytes() == removal.data


def test_another_format_keeps_profile_and_resolution(tmp_path: Path) -> None:
    """Pixels in a colour space of their own stay what they are."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    _removal(icc_profile=profile, dpi=(300.0, 300.0)).save(tmp_path / "a.tiff")
    with Image.open(tmp_path / "a.tiff") as saved:
        assert saved.info["icc_profile"] == profile
        assert round(float(saved.info["dpi"][0])) == 300


@pytest.mark.parametrize("format", ["PNG", "AVIF", "TIFF"])
def test_large_results_are_ours_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    """Pillow's own limit, which is below what photos may have here, is not asked (but by its reader of WebP)."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    made = _removal(30, 40)
    removal = Removal(made.cutout, made.mask, made.report, encode_image(made.cutout, format))
    assert removal.as_pillow().cutout.size == (40, 30)
    removal.save(tmp_path / ("a.tiff" if format == "PNG" else "a.png"))


@pytest.mark.parametrize("travel", [lambda one: one, lambda one: pickle.loads(pickle.dumps(one)), Removal.as_pillow])
def test_kept_metadata_goes_into_every_format(travel: Callable[[Removal], Removal], tmp_path: Path) -> None:
    """What was kept of a photo is in the file, whatever its format, also of a result that travelled or is laid out."""
    exif = Image.Exif()
    exif[0x013B] = "Ann"
    kept = select_metadata(StoredMetadata(exif=exif.tobytes()))
    made = _removal(30, 40)
    removal = travel(Removal(made.cutout, made.mask, made.report, made.data, metadata=kept))
    removal.save(tmp_path / "a.webp")
    removal.composite("white").save(tmp_path / "b.jpg")
    for name in ("a.webp", "b.jpg"):
        with Image.open(tmp_path / name) as saved:
            assert saved.getexif()[0x013B] == "Ann", name
    made.save(tmp_path / "none.webp")
    with Image.open(tmp_path / "none.webp") as saved:
        assert 0x013B not in saved.getexif()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_pipe_is_saved_to(tmp_path: Path) -> None:
    """A named pipe without an ending gets a PNG, and stays."""
    os.mkfifo(tmp_path / "pipe")
    removal = _removal(30, 40)
    with ThreadPoolExecutor(1) as pool:
        saved = pool.submit(removal.save, tmp_path / "pipe")
        assert (tmp_path / "pipe").read_bytes() == removal.data
        saved.result()
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_saving_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """An unknown ending, a format without transparency, and a file that may not be replaced."""
    removal = _removal(30, 40)
    for name in ("a.xyz", "a", "a.jpg"):
        with pytest.raises(OptionError):
            removal.save(tmp_path / name)
    removal.save(tmp_path / "a.png")
    removal.save(tmp_path / "a.png")
    with pytest.raises(OutputExistsError):
        removal.save(tmp_path / "a.png", overwrite=False)


@pytest.mark.parametrize("removal", [_removal(30, 40), _removal(30, 40).as_pillow()])
def test_it_travels_with_its_report(removal: Removal) -> None:
    """Pickled and copied, arrays and Pillow images alike."""
    for other in (pickle.loads(pickle.dumps(removal)), copy.deepcopy(removal), copy.copy(removal)):
        assert other.report == removal.report and other.data == removal.data
        assert np.array_equal(np.asarray(other.cutout), np.asarray(removal.cutout))


def test_composite_lays_the_cutout_out_anew() -> None:
    """On a colour, a picture or nothing, with a canvas and a shadow; the result is one like any other."""
    removal = _removal(90, 120, dpi=(300, 300))
    on_green = removal.composite("green", size="200x200", margin="5%", shadow="drop")
    assert on_green.cutout.shape == (200, 200, 3)
    assert tuple(on_green.cutout[0, 0]) == (0, 128, 0) and tuple(on_green.cutout[100, 100]) == (255, 0, 0)
    assert _opened(on_green.data).size == (200, 200)
    assert "enlarged" in on_green.report.notes[-1]
    assert removal.composite(template="transparent-trimmed").cutout.shape[2] == 4
    blue = np.full((10, 10, 3), (0, 0, 255), np.uint8)
    for picture in (blue, Image.fromarray(blue)):
        assert tuple(removal.composite(picture).cutout[0, -1]) == (0, 0, 255)
    assert isinstance(removal.as_pillow().composite("white").cutout, Image.Image)
    assert _opened(removal.composite("white", format="jpeg").data).info["dpi"] == (300, 300)


def test_composite_keeps_every_pixel_and_depth() -> None:
    """Without options the cutout is what it was, also at 16 bits."""
    for dtype in (np.uint8, np.uint16):
        removal = _removal(30, 40, dtype=dtype)
        again = removal.composite(bit_depth=8 if dtype == np.uint8 else 16)
        assert np.array_equal(again.cutout, removal.cutout)


def test_composite_hardens_the_edge_when_asked() -> None:
    """The cutout's alpha is no limit: half of it and more becomes all."""
    removal = _removal(30, 40)
    np.asarray(removal.cutout)[..., 3] = 153
    assert set(np.unique(removal.composite(threshold=0.5).cutout[..., 3])) == {255}


def test_composite_refuses_what_it_cannot_lay_out(tmp_path: Path) -> None:
    """A mask, a result on a background, an unknown option and a missing picture are told."""
    removal = _removal(30, 40)
    with pytest.raises(OptionError, match="on a background already"):
        removal.composite("white").composite("black")
    with pytest.raises(ConfigError, match="did you mean 'margin'"):
        removal.composite("white", margn="5%")  # type: ignore[call-arg]
    for options in ({"background": "blur"}, {"inverse": True}):
        with pytest.raises(OptionError, match="nothing of its photo's background left"):
            removal.composite(**options)
    with pytest.raises(OptionError, match="neither a colour nor a picture"):
        removal.composite(tmp_path / "missing.png")


def test_composite_tells_where_its_crop_is_in_the_photo() -> None:
    """The box is that of the new result, also of one that was cropped before."""
    removal = _removal(90, 120)
    cropped = removal.composite(crop=True)
    assert cropped.report.box == (0, 0, 60, 90)
    moved = replace(removal.report, box=(10, 20, 130, 110))
    again = Removal(removal.cutout, removal.mask, moved, removal.data).composite("white", crop=True)
    assert again.cutout.shape == (90, 60, 3)
    assert again.report.box == (10, 20, 70, 110)
