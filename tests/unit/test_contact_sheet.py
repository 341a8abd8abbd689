"""Sheets of pictures for people to judge."""

from __future__ import annotations

import numpy as np

from cutray.imaging.contact_sheet import draw_contact_sheet, draw_grid


def test_pictures_stand_whole_in_rows_and_columns() -> None:
    """Each picture is where its row and column are, rows of other heights do not overlap, and all text fits below."""
    rows = [[np.full((height, 40, 3), 10 * column, np.uint8) for column in range(3)] for height in (30, 50)]
    sheet = np.asarray(draw_grid(("a", "b", "c"), rows, ("first", "second"), cell_px=40))
    assert sheet.shape == (34 + 64 + 84, 3 * 52 + 12, 3)
    for top, height in ((34, 30), (34 + 64, 50)):
        for column in range(3):
            left = 12 + 52 * column
            assert (sheet[top : top + height, left : left + 40] == 10 * column).all()


def test_a_result_is_shown_four_ways() -> None:
    """Photo, mask, cutout on squares and on a strong colour, where the background is that colour alone."""
    photo = np.full((60, 40, 3), 100, np.uint8)
    alpha = np.zeros((60, 40), np.uint8)
    alpha[:, :20] = 255
    sheet = np.asarray(draw_contact_sheet([("one", photo, np.dstack([photo, alpha]))], cell_px=60))
    row = sheet[34 + 30]
    assert sheet.shape[1] == 4 * 72 + 12
    assert [tuple(row[12 + 72 * column + 5]) for column in (0, 1, 3)] == [(100,) * 3, (255,) * 3, (100,) * 3]
    assert tuple(row[12 + 72 * 3 + 35]) == (255, 0, 255)
    assert tuple(row[12 + 72 + 35]) == (0, 0, 0)
