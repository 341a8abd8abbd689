"""On a background, a colour-managed viewer shows what was asked for, whatever the spaces and kinds of the pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cutray.config import InputLimits, PictureSettings
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.imaging.encode import encode_image
from cutray.removal import Removal, RemovalReport
from cutray.render import encode, render
from tests.alphas import soft_disc
from tests.pictures import camera_profile, ink_profile, photo, prophoto_profile, saved, wide_profile

HEIGHT, WIDTH = 80, 100
ALPHA = soft_disc(HEIGHT, WIDTH, 20, 4)
ORANGE = (255, 136, 0)
SPACES = {"srgb": None, "wide": wide_profile(), "very wide": prophoto_profile()}


def _photo(profile: bytes | None) -> DecodedImage:
    options = {} if profile is None else {"icc_profile": profile}
    return decode_image(saved(photo(HEIGHT, WIDTH), "PNG", **options), keep_profile=True)


def _write(image: DecodedImage, format_name: str = "PNG", **options: Any) -> Image.Image:
    """Render and encode on a background, and open the result."""
    settings = PictureSettings(**options)
    rendered = render(image, ALPHA, settings, clean_edges=True, limits=InputLimits())
    return Image.open(io.BytesIO(encode(rendered, image, settings, format_name)))


def _shown(image: Image.Image) -> np.ndarray:
    """Return what a colour-managed viewer shows on an sRGB screen, on white where it is transparent."""
    if image.mode == "RGBA":
        image_info = image.info
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        image.info = image_info
    profile = image.info.get("icc_profile")
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
@pytest.mark.parametrize("space", SPACES)
def test_a_colour_is_shown_as_asked_for(space: str, format_name: str) -> None:
    """A background colour looks the same on a photo of any space, in every format."""
    shown = _shown(_write(_photo(SPACES[space]), format_name, background="#ff8800", encode_quality=95))
    assert np.abs(np.median(shown[:10, :10], axis=(0, 1)) - ORANGE).max() <= (
        3 if format_name in ("PNG", "TIFF") else 6
    )


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("below", SPACES)
@pytest.mark.parametrize("above", SPACES)
def test_a_picture_is_shown_as_it_was(above: str, below: str, depth: int, tmp_path: Path) -> None:
    """A background picture looks the same on a photo, for every pair of spaces."""
    path = tmp_path / "beach.png"
    options = {} if SPACES[below] is None else {"icc_profile": SPACES[below]}
    path.write_bytes(saved(np.full((30, 40, 3), (90, 140, 110), np.uint8), "PNG", **options))
    wanted = _shown(Image.open(path))[0, 0]
    image = _photo(SPACES[above])
    settings = PictureSettings(background=str(path), bit_depth=depth)
    rendered = render(image, ALPHA, settings, clean_edges=True, limits=InputLimits())
    picture = rendered.picture if depth == 8 else (rendered.picture // 257).astype(np.uint8)
    shown = _shown(Image.open(io.BytesIO(encode_image(picture, "PNG", icc_profile=rendered.icc_profile))))
    assert np.abs(shown[0, 0] - wanted).max() <= 3
    assert rendered.icc_profile == SPACES[above]


@pytest.mark.parametrize(
    ("data", "color"),
    [
        (encode_image(np.full((20, 30, 3), (51_400, 25_700, 2570), np.uint16), "PNG"), (200, 100, 10)),
        (saved(Image.new("L", (30, 20), 77), "PNG"), (77, 77, 77)),
        (saved(Image.new("CMYK", (30, 20), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
        (saved(Image.new("CMYK", (30, 20), (0, 0, 0, 255)), "TIFF", icc_profile=ink_profile()), (119, 119, 119)),
        (saved(Image.new("P", (30, 20), 0), "PNG"), (0, 0, 0)),
    ],
    ids=["16 bits", "grey", "CMYK", "CMYK with profile", "palette"],
)
def test_pictures_of_every_kind_are_backgrounds(data: bytes, color: tuple[int, int, int], tmp_path: Path) -> None:
    """A background picture may have 16 bits, be grey, CMYK or a palette picture, on any photo."""
    path = tmp_path / "beach"
    path.write_bytes(data)
    for space in SPACES.values():
        shown = _shown(_write(_photo(space), background=str(path)))
        assert np.abs(shown[0, 0] - color).max() <= 3


@pytest.mark.parametrize("as_upload", [False, True])
def test_hidden_colours_of_a_transparent_background_stay_hidden(as_upload: bool, tmp_path: Path) -> None:
    """Where background and subject are transparent, so is the result; in a JPEG white shows there."""
    below = np.full((HEIGHT, WIDTH, 4), (255, 0, 255, 0), np.uint8)
    below[:, WIDTH // 2 :] = (0, 0, 255, 128)
    path = tmp_path / "beach.png"
    path.write_bytes(saved(below, "PNG"))
    image = _photo(None)
    for format_name in ("PNG", "JPEG"):
        settings = PictureSettings(background="white" if as_upload else str(path))
        backdrop = decode_image(path.read_bytes(), keep_profile=True) if as_upload else None
        rendered = render(image, ALPHA, settings, clean_edges=True, limits=InputLimits(), backdrop=backdrop)
        written = Image.open(io.BytesIO(encode(rendered, image, settings, format_name)))
        assert written.mode == ("RGBA" if format_name == "PNG" else "RGB")
        shown = _shown(written)
        assert np.abs(shown[5, 5] - 255).max() <= 3
        assert np.abs(shown[5, -5] - (127, 127, 255)).max() <= 4
        assert np.abs(shown[HEIGHT // 2, WIDTH // 2] - image.pixels[HEIGHT // 2, WIDTH // 2]).max() <= 8
        if format_name == "PNG":
            assert np.asarray(written)[5, 5].tolist() == [0, 0, 0, 0]


def test_a_profile_that_cannot_be_converted_to_gives_way() -> None:
    """A photo in a camera's own space is brought to sRGB when it gets a background, with a note."""
    image = _photo(camera_profile())
    assert image.icc_profile == camera_profile()
    rendered = render(image, ALPHA, PictureSettings(background="#ff8800"), clean_edges=True, limits=InputLimits())
    assert rendered.icc_profile is None
    assert rendered.picture[0, 0].tolist() == list(ORANGE)
    assert "converted to sRGB" in rendered.notes[0]
    cutout = render(image, ALPHA, PictureSettings(), clean_edges=True, limits=InputLimits())
    assert cutout.icc_profile == camera_profile()


def test_the_pillow_image_carries_its_profile() -> None:
    """A picture that comes back as a Pillow image has the profile that its pixels need; an sRGB one has none."""
    for space in SPACES.values():
        image = _photo(space)
        rendered = render(image, ALPHA, PictureSettings(), clean_edges=True, limits=InputLimits())
        data = encode(rendered, image, PictureSettings(), "PNG")
        report = RemovalReport(True, 1.0, 0.5, WIDTH, HEIGHT, rendered.box, "model", "engine")
        removal = Removal(rendered.picture, rendered.mask, report, data).as_pillow()
        assert removal.cutout.info.get("icc_profile") == space
        again = Image.open(io.BytesIO(saved(removal.cutout, "PNG")))
        assert again.info.get("icc_profile") == space


def test_margins_are_accounted_for() -> None:
    """A crop margin that ends at the photo's border is noted; one that fits is not."""
    image = _photo(None)

    def notes(**options: Any) -> tuple[str, ...]:
        settings = PictureSettings(**options)
        return render(image, ALPHA, settings, clean_edges=False, limits=InputLimits()).notes

    assert notes(crop=True, crop_margin="3px") == ()
    assert notes() == notes(crop=True) == ()
    (cut,) = notes(crop=True, crop_margin="500px")
    assert cut.startswith("crop_margin of 500 px ends at the photo's border: left")
