"""Drives the page in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PHONE, DESKTOP = (390, 844), (1366, 768)
# For tests of one kind of window; all others run in both.
ON_PHONE = pytest.mark.parametrize("window", [PHONE], indirect=True, ids=["phone"])
ON_DESKTOP = pytest.mark.parametrize("window", [DESKTOP], indirect=True, ids=["desktop"])
PATIENCE_MS = 300_000  # nothing is measured here
# Refusals that tests ask for; the browser itself writes a line for each.
_ALLOWED = re.compile("40[014]|410|415|422|429|INTERNET_DISCONNECTED")
_COLOR = """async ([across, down]) => {
  const viewer = await import('./viewer.js');
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const canvas = document.getElementById('view');
  const {x, y} = viewer.shareToScreen(across, down);
  return [...canvas.getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data];
}"""


_PLACES = (
    "async (points) => { const v = await import('./viewer.js'); return points.map((p) => v.shareToScreen(...p)); }"
)


@contextmanager
def started() -> Iterator[Any]:
    """Run Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, address: str, size: tuple[int, int], **options: Any) -> Iterator[Any]:
    """Open the page, and demand that it has no errors and calls nobody else.

    Args:
        browser: From ``started``.
        address: Of the endpoint.
        size: Width and height of the window.
        options: Of the browser's context.
    """
    viewport = dict(zip(("width", "height"), size, strict=True))
    context = browser.new_context(**{"viewport": viewport, "reduced_motion": "reduce", **options})
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    foreign: list[str] = []
    tab.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else foreign.append(r.url))
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(address)
    yield tab
    context.close()
    assert not foreign
    assert not [text for text in complaints if not _ALLOWED.search(text)]


def add_photos(tab: Any, *photos: Path) -> None:
    """Add photos, and wait until all are cut out and one is shown."""
    before = tab.locator("#photos .done").count()
    tab.set_input_files("#pick", list(photos))
    tab.locator("#photos .done").nth(before + len(photos) - 1).wait_for()
    tab.wait_for_function("() => !document.getElementById('compare').disabled")


def open_part(tab: Any, name: str) -> None:
    """Open a part of the tools where they are not side by side."""
    button = tab.locator(f"#bar [aria-controls=part-{name}]")
    if button.is_visible():
        button.click()


def color_at(tab: Any, across: float, down: float) -> list[int]:
    """Return red, green, blue and alpha of what is seen at a place of the picture, in shares of its sides."""
    found: list[int] = tab.evaluate(_COLOR, [across, down])
    return found


def stroke(tab: Any, *points: tuple[float, float]) -> float:
    """Drag the mouse over places of the picture, in shares of its sides, and wait for the answer.

    Returns:
        How long the answer took, in seconds.
    """
    box = tab.locator("#view").bounding_box()
    places = [(box["x"] + at["x"], box["y"] + at["y"]) for at in tab.evaluate(_PLACES, points)]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=4)
    begin = time.monotonic()
    tab.mouse.up()
    settle(tab)
    return time.monotonic() - begin


def settle(tab: Any) -> None:
    """Wait until marks are answered and layouts are shown."""
    tab.wait_for_function("() => document.getElementById('busy').hidden")
