"""Soft edges are solved from the photo's colours, inside their band and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.matting import atlas
from cutray.matting.alpha import upsample_alpha
from cutray.matting.atlas import Atlas
from cutray.matting.closed_form import LocalColors, solve_unknown, split_planes
from cutray.matting.edges import matte_edges
from tests.alphas import disc, scene, soft_disc

CELLS = 320


def _photo(alpha: np.ndarray, noise: float = 3.0) -> np.ndarray:
    """Lay a reddish subject on a greenish background, both with a slow gradient and a little noise."""
    height, width = alpha.shape
    slope = np.linspace(0, 40, width, dtype=np.float32)[None, :, None]
    subject, behind = np.float32([190, 70, 50]) + slope, np.float32([50, 120, 60]) + slope
    mixed = alpha[..., None] * subject + (1 - alpha[..., None]) * behind
    mixed += np.random.default_rng(3).normal(0, noise, (height, width, 3))
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _coarse(alpha: np.ndarray, blur_cells: float = 1.5) -> np.ndarray:
    """Show alpha as the network does: on a small grid, blurred, without ever reaching 0 or 1."""
    small = cv2.resize(alpha, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    probs = 0.02 + 0.96 * cv2.GaussianBlur(small, (0, 0), blur_cells)
    return ((probs - 0.04) / 0.92).astype(np.float32)


@pytest.mark.parametrize("size", [(1200, 1500), (701, 1003)])
def test_a_blurred_outline_becomes_crisp_again(size: tuple[int, int]) -> None:
    """Against the truth, the error falls to less than half of what stretching the map leaves."""
    truth = cv2.resize(scene(5), size[::-1], interpolation=cv2.INTER_LINEAR)
    levelled = _coarse(truth)
    plain = np.abs(upsample_alpha(levelled, *size) - truth).mean()
    matted = np.abs(matte_edges(levelled, CELLS, _photo(truth), 480) - truth).mean()
    assert matted < 0.5 * plain


def test_sure_parts_stay_exactly_sure() -> None:
    """Two cells away from anything soft alpha is exactly what the map says: 0 or 1."""
    truth = disc(1200, 1500, 400)
    levelled = _coarse(truth)
    alpha = matte_edges(levelled, CELLS, _photo(truth, noise=20), 480)
    plain = upsample_alpha(levelled, 1200, 1500)
    soft = ((plain > 0) & (plain < 1)).astype(np.uint8)
    far = cv2.dilate(soft, np.ones((41, 41), np.uint8)) == 0
    assert np.array_equal(alpha[far], plain[far])
    assert set(np.unique(alpha[far])) == {0, 1}


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (1, 1), (3, 4000), (641, 479), (960, 1277)])
def test_any_size_works(size: tuple[int, int]) -> None:
    """One pixel wide, odd or long: alpha has the photo's size, and only values in [0, 1]."""
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    alpha = matte_edges(_coarse(soft_disc(320, 320, 90)), CELLS, image, 480)
    assert alpha.shape == size
    assert alpha.dtype == np.float32
    assert np.isfinite(alpha).all()
    assert 0 <= alpha.min() <= alpha.max() <= 1


@pytest.mark.parametrize("level", [-0.04, 0.5, 1.04])
def test_without_anything_sure_on_both_sides_the_map_stands(level: float) -> None:
    """All background stays empty, all subject stays full, and all doubt is not guessed at from colours."""
    levelled = np.full((CELLS, CELLS), level, np.float32)
    alpha = matte_edges(levelled, CELLS, _photo(disc(900, 900, 200)), 480)
    assert np.array_equal(alpha, upsample_alpha(levelled, 900, 900))


def test_small_photos_keep_the_map() -> None:
    """Where a cell is no larger than a pixel the network has seen all there is, and colours have no say."""
    truth = soft_disc(300, 320, 90)
    levelled = _coarse(truth)
    alpha = matte_edges(levelled, CELLS, _photo(truth), 480)
    assert np.array_equal(alpha, upsample_alpha(levelled, 300, 320))


def test_equal_colours_leave_the_map() -> None:
    """A subject in the background's colour cannot be told by colour; the map's outline stays within two cells."""
    truth = disc(900, 900, 250)
    flat = np.full((900, 900, 3), 128, np.uint8)
    levelled = _coarse(truth)
    alpha = matte_edges(levelled, CELLS, flat, 480)
    plain = upsample_alpha(levelled, 900, 900)
    assert np.abs((alpha > 0.5).mean() - (plain > 0.5).mean()) < 0.01


def test_subject_at_the_frame_stays_whole_there() -> None:
    """Along the frame that cuts the subject, alpha stays 1."""
    truth = np.zeros((900, 900), np.float32)
    truth[:, :450] = 1
    alpha = matte_edges(_coarse(truth), CELLS, _photo(truth), 480)
    assert alpha[:, :400].min() == 1
    assert alpha[:, 500:].max() == 0


def test_the_product_is_symmetric_and_blind_to_constants() -> None:
    """The operator is a Laplacian: symmetric, not negative, and zero for a constant alpha."""
    rng = np.random.default_rng(7)
    colors = LocalColors(split_planes(rng.random((23, 31, 3), np.float32)), 2)
    one, two = rng.random((2, 23, 31), np.float32)
    assert np.vdot(one, colors.laplacian_product(two)) == pytest.approx(
        np.vdot(colors.laplacian_product(one), two), rel=1e-3
    )
    assert np.vdot(one, colors.laplacian_product(one)) > 0
    assert np.abs(colors.laplacian_product(np.ones((23, 31), np.float32))).max() < 1e-4


def test_band_is_solved_and_the_rest_is_kept() -> None:
    """Outside the band the solution is the coarse alpha, bit by bit; inside it finds the mixed colours' share."""
    truth = soft_disc(96, 128, 30, 10)
    image = _photo(truth, noise=0).astype(np.float32) / 255
    band = cv2.dilate(((truth > 0) & (truth < 1)).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    coarse = np.where(band, np.float32(0.5), truth)
    solved = solve_unknown(image, coarse, band, np.full(truth.shape, 1e-4, np.float32))
    assert np.array_equal(solved[~band], coarse[~band])
    assert np.abs(solved - truth)[band].mean() < 0.05


def _bands(height: int, width: int) -> np.ndarray:
    """Mark a thin frame along the picture's sides, and a ring, in few of its pixels."""
    band = np.zeros((height, width), bool)
    band[0, : width // 3] = band[-1, width // 2 :] = band[height // 3 : height // 2, 0] = band[-9:, -1] = True
    ring = cv2.circle(np.zeros((height, width), np.uint8), (width // 2, height // 2), height // 4, 1, 2)
    return band | (ring > 0)


@pytest.mark.parametrize("size", [(200, 171), (333, 96), (64, 640)])
def test_a_part_is_computed_as_in_the_whole(size: tuple[int, int]) -> None:
    """What windows give at the wanted pixels is the same, also at the frame, beyond which there are none."""
    rng = np.random.default_rng(11)
    image, alpha, band = rng.random((*size, 3), np.float32), rng.random(size, np.float32), _bands(*size)
    planes = split_planes(image)
    part = Atlas(band, 4)
    assert part.inside.size < band.size
    here = LocalColors([part.lay(plane) for plane in planes], 2, part.inside)
    whole = LocalColors(planes, 2).laplacian_product(alpha)
    np.testing.assert_allclose(part.read(here.laplacian_product(part.lay(alpha))), whole[band], atol=1e-6)
    values = part.take(alpha)
    alone = np.where(band, alpha, 0).astype(np.float32)
    assert np.array_equal(part.spread(values), part.lay(alone))
    assert np.array_equal(part.read(part.spread(values)), values)
    back = np.zeros_like(alpha)
    part.put(back, values)
    assert np.array_equal(back, alone)


def test_pixels_beside_the_wanted_ones_are_right_too() -> None:
    """With a margin, what is read beside a wanted square has all of its surroundings."""
    rng = np.random.default_rng(12)
    plane, wanted = rng.random((200, 170), np.float32), np.zeros((200, 170), bool)
    wanted[32:64, 64:96] = wanted[192:, 160:] = True
    part = Atlas(wanted, 2, margin_px=1)
    around = cv2.dilate(wanted.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    whole, here = (cv2.boxFilter(one, -1, (5, 5), borderType=cv2.BORDER_CONSTANT) for one in (plane, part.lay(plane)))
    np.testing.assert_allclose(part.read(here), whole[around], atol=1e-6)


@pytest.mark.parametrize("truth", [disc(800, 900, 250), scene(5)])
def test_leaving_out_what_is_known_moves_no_pixel_by_more_than_a_level(
    truth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of the solution differ by the rounding of sums in another order, which is less than one in 255."""
    photo, levelled = _photo(truth), _coarse(truth)
    parts = matte_edges(levelled, CELLS, photo, 480)
    monkeypatch.setattr(atlas, "_WORTH_IT", 0.0)
    whole = matte_edges(levelled, CELLS, photo, 480)
    assert np.abs(parts - whole).max() < 1 / 255
