"""The page in a real browser: photos in, cutouts out, nothing from outside."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_weights

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
CHROMIUM = Path("/usr/bin/chromium")
_PATIENCE_MS = 300_000  # nothing is measured here
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the endpoint with the small model."""
    from tests.endpoint import running, write_config

    require_weights("u2netp")
    config = write_config(tmp_path_factory.mktemp("page") / "serve.yaml")
    with running(config, "--model", "u2netp", "--offline") as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium without a window."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """Open the page as a phone would, and demand that it has no errors and calls nobody else."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    foreign: list[str] = []
    tab.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else foreign.append(r.url))
    tab.goto(address)
    yield tab
    assert not foreign
    assert not [text for text in complaints if "422" not in text and "415" not in text]
    context.close()


def test_photos_become_cutouts(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """Two photos are cut out; one is downloaded on its own, both together as a zip with whole pictures."""
    page.set_input_files("#pick", [photo_files / "astronaut.jpg", photo_files / "chelsea.jpg"])
    page.locator(".card.done").nth(1).wait_for(timeout=_PATIENCE_MS)
    with page.expect_download() as one:
        page.locator(".save").first.click()
    assert one.value.suggested_filename == "astronaut-cutout.png"
    with page.expect_download() as all_:
        page.click("#all")
    target = tmp_path / "all.zip"
    all_.value.save_as(target)
    archive = zipfile.ZipFile(target)
    assert archive.testzip() is None
    assert archive.namelist() == ["01-astronaut-cutout.png", "02-chelsea-cutout.png"]
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)


def test_background_is_painted(page: Any, photo_files: Path) -> None:
    """A corner of the result is transparent at first, and takes the colour that is chosen."""
    page.set_input_files("#pick", photo_files / "astronaut.jpg")
    page.wait_for_selector(".card.done", timeout=_PATIENCE_MS)
    corner = "[...document.querySelector('.after').getContext('2d').getImageData(2, 2, 1, 1).data]"
    assert page.evaluate(corner)[3] == 0
    page.check("input[value='#ffffff']")
    assert page.evaluate(corner) == [255, 255, 255, 255]
    page.fill("#colour", "#ff8800")
    assert page.evaluate(corner) == [255, 136, 0, 255]


def test_glass_is_cut_out_again(page: Any, photo_files: Path) -> None:
    """The button sends the photo once more as see-through; a background that is too busy for that is told."""
    page.set_input_files("#pick", photo_files / "chelsea.jpg")
    page.wait_for_selector(".card.done", timeout=_PATIENCE_MS)
    with page.expect_response("**/remove-background", timeout=_PATIENCE_MS) as answer:
        page.click(".glass")
    page.wait_for_selector(".card.done", timeout=_PATIENCE_MS)
    assert answer.value.status == 200
    assert "see_through" in answer.value.headers["x-notes"]
    assert "too busy" in page.inner_text(".note")
    assert page.get_attribute(".glass", "aria-pressed") == "true"
    with page.expect_response("**/remove-background", timeout=_PATIENCE_MS) as answer:
        page.click(".glass")
    page.wait_for_selector(".card.done", timeout=_PATIENCE_MS)
    assert "x-notes" not in answer.value.headers
    assert page.inner_text(".note") == ""


def test_keyboard_moves_the_slider(page: Any, photo_files: Path) -> None:
    """The line between before and after follows the arrow keys."""
    page.set_input_files("#pick", photo_files / "chelsea.jpg")
    page.wait_for_selector(".card.done", timeout=_PATIENCE_MS)
    page.focus(".slider")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('.view').style.getPropertyValue('--cut')") == "60%"


def test_bad_file_says_why(page: Any, tmp_path: Path) -> None:
    """A file that is no photo gets a sentence, not a blank card."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page.set_input_files("#pick", bad)
    page.wait_for_selector(".card.failed", timeout=_PATIENCE_MS)
    assert page.inner_text(".note")


def test_what_has_no_place_waits(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """Of twelve photos two wait, by name, while the others are worked on; they are added when there is a place."""
    photos = [tmp_path / f"photo {number:02d}.jpg" for number in range(1, 13)]
    for path in photos:
        path.write_bytes((photo_files / "coffee.jpg").read_bytes())
    page.set_input_files("#pick", photos)
    page.locator(".card.done").first.wait_for(timeout=_PATIENCE_MS)
    assert page.locator(".card").count() == 10
    for name in ("photo 11.jpg", "photo 12.jpg"):
        assert name in page.inner_text("#left")
    page.locator(".remove").last.click()
    assert page.locator(".card").count() == 9
    page.click("#next")
    assert page.locator(".card").count() == 10
    assert "photo 12.jpg" in page.inner_text("#left")
    assert "photo 11.jpg" not in page.inner_text("#left")
    page.locator(".card.done").nth(9).wait_for(timeout=_PATIENCE_MS)
    page.click("#next")
    assert page.locator(".card").count() == 1
    page.wait_for_selector("#left", state="hidden")
    assert page.inner_text(".name") == "photo 12"


def test_left_out_photos_can_be_forgotten(page: Any, photo_files: Path) -> None:
    """The notice goes when it is answered; other photos are not touched."""
    page.set_input_files("#pick", [photo_files / "coffee.jpg"] * 11)
    page.click("#forget")
    page.wait_for_selector("#left", state="hidden")
    assert page.locator(".card").count() == 10


def test_files_that_are_no_photos_are_named(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """A text among the photos is not taken, and the page says which one."""
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#pick", [photo_files / "coffee.jpg", tmp_path / "notes.txt"])
    assert "notes.txt" in page.inner_text("#left")
    assert page.locator(".card").count() == 1


def test_failed_photo_can_be_tried_again_and_removed(page: Any, tmp_path: Path) -> None:
    """A failure offers another try, and its card can be taken away."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page.set_input_files("#pick", bad)
    page.wait_for_selector(".card.failed", timeout=_PATIENCE_MS)
    with page.expect_response("**/remove-background", timeout=_PATIENCE_MS):
        page.click(".retry")
    page.wait_for_selector(".card.failed", timeout=_PATIENCE_MS)
    page.click(".remove")
    assert page.locator(".card").count() == 0
    assert page.locator("#tools").is_hidden()


def test_formats_are_those_that_the_server_reads(page: Any) -> None:
    """What is promised and offered for choice comes from the server."""
    page.wait_for_function("document.getElementById('formats').textContent.includes('JPEG')")
    promised = page.inner_text("#formats")
    accepted = page.get_attribute("#pick", "accept")
    assert ("HEIC" in promised) == ("image/heic" in accepted) == (importlib.util.find_spec("pillow_heif") is not None)
    assert "image/*" not in accepted


def test_key_is_asked_for(browser: Any, photo_files: Path, tmp_path: Path) -> None:
    """Where keys are needed, the page has a field; a wrong key is told, and the right one retries what failed."""
    from tests.endpoint import running, write_config

    config = write_config(tmp_path / "keys.yaml", api_keys={"shop": hashlib.sha256(b"s3cret").hexdigest()})
    with running(config, "--model", "u2netp", "--offline") as (url, _):
        tab = browser.new_page()
        tab.goto(url)
        tab.wait_for_selector("#key-form", timeout=_PATIENCE_MS)
        tab.set_input_files("#pick", photo_files / "chelsea.jpg")
        tab.wait_for_selector(".card.failed", timeout=_PATIENCE_MS)
        tab.fill("#key", "wrong")
        tab.press("#key", "Enter")
        tab.wait_for_selector("#key-note:not(:empty)", timeout=_PATIENCE_MS)
        tab.fill("#key", "s3cret")
        tab.press("#key", "Enter")
        tab.wait_for_selector(".card.done", timeout=_PATIENCE_MS)
        assert tab.locator("#key-form").is_hidden()
        tab.close()


def test_description_needs_no_outside_resource(page: Any, address: str) -> None:
    """The page about the HTTP interface lists every address, from this server alone."""
    page.goto(f"{address}/docs")
    page.wait_for_selector("#routes section")
    text = page.inner_text("#routes")
    assert "/remove-background" in text
    assert "/v1.0/removebg" in text
