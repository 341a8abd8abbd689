"""Behaviour of pairing photos with truths and of reading truths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.errors import DatasetError
from cutray.evaluation.datasets import find_samples, load_truth


def save(path: Path, array: np.ndarray) -> Path:
    """Write an array as a picture and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def fill(folder: Path, images: str, masks: str, stems: tuple[str, ...] = ("b", "a")) -> Path:
    """Write one photo and one mask per stem."""
    for stem in stems:
        save(folder / images / f"{stem}.jpg", np.zeros((4, 5, 3), np.uint8))
        save(folder / masks / f"{stem}.png", np.zeros((4, 5), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("images", "ground_truth_mask"),
        ("imgs", "gt"),
        ("im", "gt"),
        ("DUTS-TE-Image", "DUTS-TE-Mask"),
        ("DUTS-TR-Image", "DUTS-TR-Mask"),
        ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        ("original", "mask"),
    ],
)
def test_every_layout_is_paired_by_stem(tmp_path: Path, images: str, masks: str) -> None:
    """Photos and masks of each known layout come in pairs, sorted by stem."""
    samples = find_samples(fill(tmp_path, images, masks))

    assert [sample.stem for sample in samples] == ["a", "b"]
    assert samples[0].image == tmp_path / images / "a.jpg"
    assert samples[0].truth == tmp_path / masks / "a.png"
    assert samples[0].tags == frozenset()


def test_tags_come_from_files_named_after_them(tmp_path: Path) -> None:
    """A stem has the tags whose files list it; blank lines and stems of other sets are ignored."""
    folder = fill(tmp_path, "images", "masks")
    (folder / "tags").mkdir()
    (folder / "tags" / "fur.txt").write_text("a\n\nnot_here\n")
    (folder / "tags" / "glass.txt").write_text("a \r\nb\r\n")

    a, b = find_samples(folder)

    assert a.tags == {"fur", "glass"}
    assert b.tags == {"glass"}


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    """Photos without masks, masks without photos and double stems appear in one message."""
    folder = fill(tmp_path, "images", "masks")
    save(folder / "images" / "lonely.jpg", np.zeros((4, 5, 3), np.uint8))
    save(folder / "masks" / "orphan.png", np.zeros((4, 5), np.uint8))
    save(folder / "images" / "a.png", np.zeros((4, 5, 3), np.uint8))

    with pytest.raises(DatasetError) as caught:
        find_samples(folder)

    message = str(caught.value)
    assert "3 problems" in message
    assert "lonely.jpg has no mask" in message
    assert "orphan.png has no image" in message
    assert "images/ has a twice: a.jpg, a.png" in message


def test_files_that_are_no_pictures_are_ignored(tmp_path: Path) -> None:
    """Text files and hidden files do not count as photos."""
    folder = fill(tmp_path, "images", "masks")
    (folder / "images" / "notes.txt").write_text("x")
    (folder / "images" / ".hidden.png").write_bytes(b"x")

    assert len(find_samples(folder)) == 2


@pytest.mark.parametrize("folders", [("pictures", "masks"), ("images", "masks", "ground_truth_mask"), ()])
def test_unknown_and_ambiguous_layouts_are_refused(tmp_path: Path, folders: tuple[str, ...]) -> None:
    """A folder that fits no layout or two of them raises and names the layouts."""
    for name in folders:
        (tmp_path / name).mkdir()

    with pytest.raises(DatasetError, match=r"DUTS|ground_truth_mask"):
        find_samples(tmp_path)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    """A path that is no folder and a layout without pictures raise."""
    with pytest.raises(DatasetError, match="not a folder"):
        find_samples(tmp_path / "nowhere")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="no pictures"):
        find_samples(tmp_path)


def test_8_and_16_bit_truths_keep_their_soft_values(tmp_path: Path) -> None:
    """Grey values are scaled by the white of their depth and not binarised."""
    eight = save(tmp_path / "8.png", np.array([[0, 51, 255]], np.uint8))
    sixteen = save(tmp_path / "16.png", np.array([[0, 13107, 65535]], np.uint16))

    for path in (eight, sixteen):
        truth = load_truth(path)
        assert truth.dtype == np.float32
        assert truth[0].tolist() == pytest.approx([0.0, 0.2, 1.0])


def test_dark_16_bit_truths_are_not_taken_for_8_bit(tmp_path: Path) -> None:
    """A 16-bit value of 200 is nearly black, whatever the other values are."""
    path = save(tmp_path / "dark.png", np.full((2, 2), 200, np.uint16))

    assert load_truth(path).max() == pytest.approx(200 / 65535)


def test_one_bit_truths_are_read(tmp_path: Path) -> None:
    """A bilevel picture gives 0 and 1."""
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "bit.png")

    assert load_truth(tmp_path / "bit.png").tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_counts_where_there_is_transparency(tmp_path: Path, mode: str) -> None:
    """A cutout's truth is its alpha, not its colours."""
    picture = Image.new("RGBA", (2, 1), (200, 200, 200, 255))
    picture.putpixel((0, 0), (10, 10, 10, 102))
    picture.convert(mode).save(tmp_path / "cutout.png")

    assert load_truth(tmp_path / "cutout.png")[0].tolist() == pytest.approx([0.4, 1.0])


def test_opaque_grey_colour_pictures_are_masks(tmp_path: Path) -> None:
    """Grey stored as RGB, RGBA without transparency, palette or JPEG gives its grey values."""
    grey = np.zeros((16, 16), np.uint8)
    grey[:, 8:] = 255
    rgb = Image.fromarray(np.stack([grey] * 3, axis=2))
    rgb.save(tmp_path / "rgb.png")
    rgb.convert("RGBA").save(tmp_path / "rgba.png")
    rgb.convert("P").save(tmp_path / "palette.png")
    rgb.save(tmp_path / "lossy.jpg", quality=95)

    for name in ("rgb.png", "rgba.png", "palette.png", "lossy.jpg"):
        assert load_truth(tmp_path / name) == pytest.approx(grey / 255, abs=0.02), name


def test_coloured_truths_are_refused(tmp_path: Path) -> None:
    """A photo in place of a mask raises instead of being read as grey."""
    path = save(tmp_path / "photo.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))

    with pytest.raises(DatasetError, match="coloured"):
        load_truth(path)


def test_a_truth_of_another_size_is_refused(tmp_path: Path) -> None:
    """The size check names both sizes, width first."""
    path = save(tmp_path / "mask.png", np.zeros((4, 5), np.uint8))

    assert load_truth(path, shape=(4, 5)).shape == (4, 5)
    with pytest.raises(DatasetError, match=r"5x4 px.*4x5 px"):
        load_truth(path, shape=(5, 4))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_damaged_truths_are_refused(tmp_path: Path, content: bytes) -> None:
    """Files that are no pictures raise an error that names the file."""
    path = tmp_path / "broken.png"
    path.write_bytes(content)

    with pytest.raises(DatasetError, match=r"broken\.png"):
        load_truth(path)


def test_truncated_truths_are_refused(tmp_path: Path) -> None:
    """A PNG that ends early raises instead of giving half a mask."""
    path = save(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(DatasetError, match="cannot be read"):
        load_truth(path)
