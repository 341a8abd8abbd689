"""The page in a browser: one Chromium for each file, and one window for each test, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import DESKTOP, PHONE, opened, started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium without a window; not for longer, because playwright's loop is in the way of other tests."""
    with started() as running_browser:
        yield running_browser


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def window(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Return width and height of the window."""
    size: tuple[int, int] = request.param
    return size


@pytest.fixture
def page(browser: Any, address: str, window: tuple[int, int]) -> Iterator[Any]:
    """Open the page of the file's own endpoint, its fixture ``address``."""
    with opened(browser, address, window) as tab:
        yield tab
