"""Box, points and strokes: how they are read, what is refused, and that marks hold to the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cutray.config import RemoverSettings, parse_settings
from cutray.edit import Edit
from cutray.errors import ConfigError, InputError, OptionError
from cutray.hints import Hints, format_points, parse_box, read_hints
from cutray.hints_file import hints_beside, parse_hints
from cutray.imaging.decode import from_array
from cutray.imaging.resize import resize_area
from cutray.tta import Prediction


def read(height: int = 60, width: int = 80, strokes: np.ndarray | None = None, **values: str) -> Hints | None:
    """Read hints for a photo of 80 × 60 pixels."""
    settings = parse_settings(RemoverSettings, values)
    return read_hints(settings, height, width, settings, None if strokes is None else from_array(strokes))


def test_pixels_and_percent_are_the_same_box() -> None:
    """A box is given in pixels or in percent, and has room around it that the network sees."""
    assert parse_box("8, 6,40,30", 60, 80) == parse_box("10%,10%,50%,50%", 60, 80) == (8, 6, 40, 30)
    hints = read(box="10%,10%,50%,50%")
    assert hints is not None
    left, top, right, bottom = hints.window
    assert left < 8 and top < 6 and right > 40 and bottom > 30
    assert read() is None


def test_a_mark_outside_the_box_widens_what_is_worked_on() -> None:
    """The network looks at the box alone, but a mark elsewhere counts."""
    hints = read(box="0,0,20,20", keep="70,50")
    assert hints is not None
    assert hints.view[2] < 30
    assert hints.window[2] > 70 and hints.window[3] > 50


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"box": "0,0,81,60"}, "0 to 80 across"),
        ({"box": "0,0,101%,60"}, "outside the photo of 80 × 60"),
        ({"box": "40,0,40,60"}, "is empty"),
        ({"keep": "80,5"}, "keep point 80,5 lies outside"),
        ({"drop": "5,5; 5,60"}, "drop point 5,60 lies outside"),
        ({"keep": "5,5; 9,9", "drop": "9,9"}, "both marked at 9,9"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, str], told: str) -> None:
    """Hints that do not fit the photo or each other name what is allowed."""
    with pytest.raises(OptionError, match=told):
        read(**values)


@pytest.mark.parametrize("values", [{"box": "1,2,3"}, {"keep": "a,b"}, {"drop": "1,2,3"}, {"box": "-1,0,5,5"}])
def test_malformed_hints_are_told_before_any_photo(values: dict[str, str]) -> None:
    """A text that is no box or no list of points is a wrong setting; so are hints for rembg's recipe."""
    with pytest.raises(ConfigError, match="allowed is"):
        read(**values)
    with pytest.raises(ConfigError, match="compat together with"):
        parse_settings(RemoverSettings, {"compat": True, "box": "0,0,1,1"})


def test_strokes_are_green_and_red() -> None:
    """Green is kept, red dropped, all else and what is transparent says nothing; the size may differ, not the shape."""
    drawn = np.zeros((120, 160, 4), np.uint8)
    drawn[10:20, 10:20] = (0, 255, 0, 255)
    drawn[40:50, 40:50] = (255, 0, 0, 255)
    drawn[80:90, 80:90] = (255, 255, 255, 255)
    drawn[80:90, 100:110] = (0, 255, 0, 20)
    hints = read(strokes=drawn)
    assert hints is not None and hints.keep is not None and hints.drop is not None
    assert np.array_equal(np.argwhere(hints.keep).min(axis=0), (5, 5))
    assert hints.keep.sum() == hints.drop.sum() == 25
    with pytest.raises(OptionError, match="without a stroke"):
        read(strokes=np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(OptionError, match="the photo's size, or its shape"):
        read(strokes=drawn[:100])
    missing = parse_settings(RemoverSettings, {"strokes": "/nonexistent.png"})
    with pytest.raises(InputError):
        read_hints(missing, 60, 80, missing)


def test_later_marks_count() -> None:
    """Marks are added to those before; where both mark a pixel, the later one counts."""
    first, second = read(keep="5,5; 20,20"), read(drop="5,5")
    assert first is not None and second is not None
    both = first.with_marks(second)
    assert both.keep is not None and both.drop is not None
    assert both.keep[20, 20] and not both.keep[5, 5] and both.drop[5, 5]
    assert format_points([(5, 5), (20.0, 2)]) == "5,5; 20,2"


def test_the_last_mark_may_be_taken_back() -> None:
    """Where a later mark takes the only one kept, nothing is kept: a box then is all that is worked on."""
    first, second = read(box="10%,5%,50%,95%", keep="70,50"), read(drop="70,50")
    assert first is not None and second is not None
    both = first.with_marks(second)
    assert both.keep is None
    assert both.window == both.view


def test_points_of_both_kinds_may_lie_close_together() -> None:
    """Discs that overlap give way to each other; the points themselves are marked."""
    hints = read(1000, 1000, keep="500,500", drop="502,500; 900,900")
    assert hints is not None and hints.keep is not None and hints.drop is not None
    assert not (hints.keep & hints.drop).any()
    assert hints.keep[500, 500] and hints.drop[500, 502]
    assert hints.keep.sum() > 1 and hints.drop[900, 901]


@pytest.mark.parametrize(("box", "keep"), [("100,100,104,104", "3900,3900"), ("3996,3996,4000,4000", "10,10")])
def test_a_tiny_box_with_a_mark_far_away(box: str, keep: str) -> None:
    """A box of which nothing would be left at the network's size still has an answer."""
    hints = read(4000, 4000, box=box, keep=keep)
    assert hints is not None and hints.keep is not None
    edit = Edit(np.full((4000, 4000, 3), 128, np.uint8), parse_settings(RemoverSettings, {"quality": "fast"}))
    edit.add(hints, Prediction(np.ones((32, 32), np.float32), 32, 1))
    assert (edit.matte(hints).alpha[hints.keep] == 1).all()
    with pytest.raises(ValueError, match="1 × 1 or more"):
        resize_area(np.ones((8, 8), np.float32), 0, 4)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, Hints]:
    """Draw a photo of flat patches with noise, a map that has little to do with it, and random marks."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(24, 72, 2))
    patches = random.integers(0, 256, (int(random.integers(1, 5)), int(random.integers(1, 5)), 3))
    rows, columns = np.arange(height) * len(patches) // height, np.arange(width) * patches.shape[1] // width
    noisy = patches[rows][:, columns] + random.normal(0, random.uniform(0, 30), (height, width, 3))
    probs = random.random((4, 4)).repeat(8, axis=0).repeat(8, axis=1).astype(np.float32)
    marks = random.integers(0, 40, (height, width))
    keep, drop = marks == 0, marks == 1
    for mask in (keep, drop):
        mask[int(random.integers(height)), :: int(random.integers(1, 9))] = random.random() < 0.5
    drop &= ~keep
    corners = [sorted(random.choice(side + 1, 2, replace=False).tolist()) for side in (width, height)]
    box = (corners[0][0], corners[1][0], corners[0][1], corners[1][1]) if random.random() < 0.3 else None
    return np.clip(noisy, 0, 255).astype(np.uint8), probs, Hints(height, width, box, keep, drop)


@pytest.mark.parametrize("start", range(0, 200, 25))
def test_never_a_hole_and_never_anything_left(start: int) -> None:
    """In 200 random scenes, with every quality, each pixel kept is opaque and each one dropped transparent."""
    for seed in range(start, start + 25):
        image, probs, hints = scene(seed)
        quality = ("fast", "balanced", "best")[seed % 3]
        subjects = ("all", "largest")[seed % 2]
        edit = Edit(image, parse_settings(RemoverSettings, {"quality": quality, "subjects": subjects, "min_area": 5}))
        edit.add(hints, Prediction(probs, 32, 1))
        alpha = edit.matte(hints).alpha
        assert hints.keep is not None and hints.drop is not None
        assert alpha.shape == image.shape[:2]
        assert (alpha[hints.keep] == 1).all(), seed
        assert not alpha[hints.drop].any(), seed


@pytest.mark.parametrize("scale", [0.25, 1, 8])
def test_a_mark_fills_its_patch_and_stops_at_the_edge(scale: float) -> None:
    """One point in a part that the network has left out brings in that part, and nothing beyond its edge."""
    height, width = int(90 * scale), int(120 * scale)
    image = np.full((height, width, 3), 220, np.uint8)
    image[int(20 * scale) : int(70 * scale), int(30 * scale) : int(90 * scale)] = (40, 70, 160)
    truth = (image != 220).all(axis=-1)
    image[::2] -= 15  # a texture, which is no edge
    settings = parse_settings(RemoverSettings, {"quality": "fast"})
    hints = Hints(height, width, keep=np.zeros((height, width), bool))
    assert hints.keep is not None
    hints.keep[height // 2, width // 2] = True
    edit = Edit(image, settings)
    edit.add(hints, Prediction(np.full((64, 64), 0.02, np.float32), 64, 1))
    found = edit.matte(hints)
    assert ((found.alpha > 0.5) & truth).sum() / ((found.alpha > 0.5) | truth).sum() > 0.9
    assert found.subject.found
    (one,) = found.objects
    assert abs(one.area_fraction - truth.mean()) < 0.05


def test_what_a_mark_takes_ends_with_an_outline() -> None:
    """In an even area, where no edge stops it, a stroke leaves no haze around what it takes away."""
    probs = np.full((100, 100), 0.98, np.float32)
    drop = np.zeros((200, 200), bool)
    drop[100, 80:120] = True
    edit = Edit(np.full((200, 200, 3), 120, np.uint8), parse_settings(RemoverSettings, {"quality": "fast"}))
    edit.add(Hints(200, 200), Prediction(probs, 100, 1))
    alpha = edit.matte(Hints(200, 200, drop=drop)).alpha
    gone, haze = alpha < 0.05, (alpha >= 0.05) & (alpha < 0.95)
    assert gone.mean() > 0.2
    assert haze.sum() < 0.25 * gone.sum()


@pytest.mark.parametrize(("kind", "inside"), [("drop", 1), ("keep", -1)])
def test_a_mark_beside_the_outline_speaks_of_a_sliver(kind: str, inside: int) -> None:
    """Where map and photo have no edge, a mark close to the map's outline moves it a little, a deep one takes the part.

    A point that mends the last two pixels of an outline must not take away what was right.
    """
    image = np.full((200, 200, 3), 120, np.uint8)
    probs = np.full((100, 100), 0.05, np.float32)
    probs[:, 50:] = 0.95

    def changed(column: int) -> float:
        hints = Hints(200, 200, **{kind: np.zeros((200, 200), bool)})
        marks = hints.keep if kind == "keep" else hints.drop
        assert marks is not None
        marks[100, column] = True
        edit = Edit(image, parse_settings(RemoverSettings, {"quality": "fast"}))
        edit.add(hints, Prediction(probs, 100, 1))
        return float(((edit.matte(hints).alpha > 0.5) != (np.arange(200) >= 100)).mean())

    assert 0 < changed(100 + 2 * inside) < 0.03
    assert changed(100 + 4 * inside) < 0.1
    assert changed(100 + 60 * inside) > 0.2


def test_hints_beside_a_photo(tmp_path: Path) -> None:
    """A file beside the photo says the same as options; what is no hint in it is refused by name."""
    assert hints_beside(tmp_path / "a.jpg") == {}
    (tmp_path / "a.hints.json").write_text('{"box": [4, 6, 40, 30], "keep": [[5, 7]], "drop": "1,1", "subjects": 2}')
    assert hints_beside(tmp_path / "a.jpg") == {"box": "4,6,40,30", "keep": "5,7", "drop": "1,1", "subjects": "2"}
    (tmp_path / "a.hints.json").write_text('{"strokes": "a.png"}')
    assert hints_beside(tmp_path / "a.jpg") == {"strokes": str(tmp_path / "a.png")}
    for wrong in ("", "[]", '{"model": "u2netp"}', '{"box": [1, 2]}', '{"keep": 5}', '{"box": "a"}'):
        with pytest.raises(OptionError, match="no file of hints"):
            parse_hints(wrong.encode(), "a.hints.json")


def test_points_of_the_benchmark_are_put_by_a_rule() -> None:
    """The next point is the middle of the largest region that is wrong."""
    from pipelines.bench.hints import worst_point

    truth = np.zeros((40, 60), bool)
    truth[10:21, 20:31] = True
    assert worst_point(np.zeros_like(truth), truth) == (25, 15)
    mask = truth.copy()
    mask[30:39, 0:9] = True
    assert worst_point(mask, truth) == (4, 34)


def test_page_of_the_benchmark_tells_gain_and_harm() -> None:
    """Means, medians and intervals by halves; how many are good, and how many a step has made worse."""
    from pipelines.bench.hints import Row, _page

    rows = [Row("a", [0.2, 0.5, 0.9, 0.86, 0.9], [1.0] * 5), Row("b", [0.4, 0.3, 0.7, 0.9, 0.905], [2.0] * 5)]
    page = _page(rows, [], 7, 0.6)
    assert "2 of 7 photos have an IoU below 0.6" in page
    assert "| all 2: median IoU | 0.300 | 0.400 | 0.800 | 0.880 | 0.903 |" in page
    assert "| IoU of 0.85 or more | 0 | 0 | 1 | 2 | 2 |" in page
    assert "| worse than without hints | 0 | 1 | 0 | 0 | 0 |" in page
    assert "| worse than a step before | 0 | 1 | 0 | 1 | 0 |" in page
    assert "| median seconds | 1.50 |" in page
    assert {row.half for row in (Row(str(number)) for number in range(9))} == {"A", "B"}
