"""The tools of the page in a real browser, in front of an endpoint that asks for a key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import (
    CHROMIUM,
    ON_DESKTOP,
    ON_PHONE,
    PHONE,
    add_photos,
    color_at,
    open_part,
    opened,
    settle,
    stroke,
)
from tests.conftest import require_weights

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")
_KEY = "s3cret"
_WHITE = [255, 255, 255, 255]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the endpoint with the small model and one key."""
    from tests.endpoint import running, write_config

    require_weights("u2netp")
    keys = {"shop": hashlib.sha256(_KEY.encode()).hexdigest()}
    config = write_config(tmp_path_factory.mktemp("tools") / "serve.yaml", api_keys=keys)
    with running(config, "--model", "u2netp", "--offline") as (url, _):
        yield url


@pytest.fixture
def page(page: Any) -> Any:
    """Give the page the key."""
    page.fill("#key", _KEY)
    page.press("#key", "Enter")
    return page


def _choose_white(tab: Any) -> None:
    """Lay the subject on white."""
    open_part(tab, "background")
    tab.check("[name=background][value='#ffffff']", force=True)
    open_part(tab, "tools")


def test_key_is_asked_for(browser: Any, address: str, photo_files: Path) -> None:
    """Where keys are needed, the page has a field; a wrong key is told, and the right one retries what failed."""
    with opened(browser, address, PHONE) as tab:
        tab.wait_for_selector("#key-form")
        tab.set_input_files("#pick", photo_files / "chelsea.jpg")
        tab.wait_for_selector("#photos .failed")
        tab.fill("#key", "wrong")
        tab.press("#key", "Enter")
        tab.wait_for_selector("#key-note:not(:empty)")
        tab.fill("#key", _KEY)
        tab.press("#key", "Enter")
        tab.wait_for_selector("#photos .done")
        assert tab.locator("#key-form").is_hidden()


def test_marks_correct_the_subject(page: Any, photo_files: Path) -> None:
    """A stroke drops, another one keeps; undo and redo bring back each state, and the file has what is seen."""
    add_photos(page, photo_files / "astronaut.jpg")
    _choose_white(page)
    place = (0.45, 0.9)
    page.click("[data-tool=drop]")
    stroke(page, (0.4, 0.9), (0.5, 0.9))
    page.click("[data-tool=move]")
    assert color_at(page, *place) == _WHITE
    page.click("#undo")
    settle(page)
    assert color_at(page, *place) != _WHITE
    page.click("#redo")
    settle(page)
    assert color_at(page, *place) == _WHITE
    page.click("[data-tool=keep]")
    stroke(page, (0.04, 0.05), (0.1, 0.05))
    page.click("[data-tool=move]")
    assert color_at(page, 0.07, 0.05) != _WHITE
    open_part(page, "save")
    with page.expect_download() as one:
        page.click("#save")
    with Image.open(one.value.path()) as picture:
        width, height = picture.size
        shown = picture.convert("RGB")
        assert shown.getpixel((round(place[0] * width), round(place[1] * height))) == (255, 255, 255)
        assert shown.getpixel((round(0.07 * width), round(0.05 * height))) != (255, 255, 255)


@ON_DESKTOP
def test_keyboard_draws_a_box(page: Any, photo_files: Path) -> None:
    """Keys alone choose the tool, set it down, move it and lift it; what lies outside the box is background."""
    add_photos(page, photo_files / "astronaut.jpg")
    page.focus("#stage")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator("#undo").is_enabled()
    page.keyboard.press("g")
    assert color_at(page, 0.45, 0.25) == _WHITE
    page.keyboard.press("Control+z")
    settle(page)
    assert color_at(page, 0.45, 0.25) != _WHITE


@ON_PHONE
def test_forgotten_edit_is_made_anew(page: Any, address: str, photo_files: Path) -> None:
    """An edit that the endpoint has given up is begun again without a word, with all marks."""
    with page.expect_response("**/edits") as answer:
        add_photos(page, photo_files / "astronaut.jpg")
    edit = f"{address}/edits/{answer.value.json()['id']}"
    assert page.request.delete(edit, headers={"X-API-Key": _KEY}).status == 204
    _choose_white(page)
    page.click("[data-tool=drop]")
    stroke(page, (0.4, 0.9), (0.5, 0.9))
    page.click("[data-tool=move]")
    assert color_at(page, 0.45, 0.9) == _WHITE
    assert page.locator("#note").is_hidden()


@ON_PHONE
def test_marks_outlive_a_lost_network(page: Any, photo_files: Path) -> None:
    """A stroke that does not arrive is kept, told, and applied once the network is back."""
    add_photos(page, photo_files / "astronaut.jpg")
    _choose_white(page)
    page.context.set_offline(True)
    page.click("[data-tool=drop]")
    stroke(page, (0.4, 0.9), (0.5, 0.9))
    page.click("[data-tool=move]")
    assert "marks are kept" in page.inner_text("#note")
    assert color_at(page, 0.45, 0.9) != _WHITE
    page.context.set_offline(False)
    page.wait_for_selector("#note", state="hidden")
    settle(page)
    assert color_at(page, 0.45, 0.9) == _WHITE


def test_layout_is_shown_as_it_is_saved(page: Any, photo_files: Path) -> None:
    """A template is shown after a moment, and downloaded in its size and on its background."""
    add_photos(page, photo_files / "coffee.jpg")
    open_part(page, "layout")
    page.select_option("#canvas", "template:square-white")
    assert "2000" in page.inner_text("#about")
    page.wait_for_function("() => document.getElementById('stage').dataset.shown === '2000x2000'")
    page.check("[name=shadow][value=drop]", force=True)
    open_part(page, "save")
    page.select_option("#format", "jpeg")
    with page.expect_download() as one:
        page.click("#save")
    with Image.open(one.value.path()) as picture:
        assert (picture.format, picture.size) == ("JPEG", (2000, 2000))
        assert picture.getpixel((3, 3)) == (255, 255, 255)


@ON_DESKTOP
def test_layout_follows_marks_and_pictures(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """A mark in the place of another one is seen in the layout, and so is a background of the same age as the last."""
    add_photos(page, photo_files / "astronaut.jpg")
    _choose_white(page)
    page.check("#outline")
    settle(page)
    first, second = (0.45, 0.9), (0.45, 0.7)
    page.click("[data-tool=drop]")
    stroke(page, (0.4, 0.9), (0.5, 0.9))
    page.click("[data-tool=move]")
    settle(page)
    assert color_at(page, *first) == _WHITE and color_at(page, *second) != _WHITE
    page.click("[data-tool=drop]")
    page.click("#undo")
    settle(page)
    stroke(page, (0.4, 0.7), (0.5, 0.7))
    page.click("[data-tool=move]")
    settle(page)
    assert color_at(page, *first) != _WHITE and color_at(page, *second) == _WHITE
    for channel, name in enumerate(("red", "green")):
        picture = tmp_path / f"{name}.png"
        Image.new("RGB", (64, 64), name).save(picture)
        os.utime(picture, (1_700_000_000, 1_700_000_000))
        page.set_input_files("#picture", picture)
        page.wait_for_selector(f"#picture-name:has-text('{picture.name}')")
        settle(page)
        red_green = color_at(page, 0.02, 0.02)[:2]
        assert red_green[channel] > 100 > red_green[1 - channel]
