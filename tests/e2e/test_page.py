"""The page in a real browser: photos in, cutouts out, nothing from outside."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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


@pytest.fixture(params=[(390, 844), (1366, 768)], ids=["phone", "desktop"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """Open the page in a width, and demand that it has no errors and calls nobody else."""
    width, height = getattr(request, "param", (390, 844))
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    foreign: list[str] = []
    tab.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else foreign.append(r.url))
    tab.set_default_timeout(_PATIENCE_MS)
    tab.goto(address)
    yield tab
    assert not foreign
    assert not [text for text in complaints if not re.search("415|422|429|INTERNET_DISCONNECTED", text)]
    context.close()


def _part(tab: Any, name: str) -> None:
    """Open a part of the tools where they are not side by side."""
    button = tab.locator(f"#bar [aria-controls=part-{name}]")
    if button.is_visible():
        button.click()


def _done(tab: Any, *photos: Path) -> None:
    """Add photos, and wait until all are cut out and shown."""
    tab.set_input_files("#pick", list(photos))
    tab.locator("#photos .done").nth(len(photos) - 1).wait_for()
    tab.wait_for_function("() => !document.getElementById('compare').disabled")


_CORNER = """async () => {
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const photo = document.getElementById('view');
  const {x, y} = (await import('./viewer.js')).toScreen(3, 3);
  return [...photo.getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data];
}"""
_PHONE = pytest.mark.parametrize("page", [(390, 844)], indirect=True, ids=["phone"])
_DESKTOP = pytest.mark.parametrize("page", [(1366, 768)], indirect=True, ids=["desktop"])


def test_photos_become_files(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """Two photos are cut out; one is downloaded on its own, both together as a zip with whole pictures."""
    _done(page, photo_files / "astronaut.jpg", photo_files / "chelsea.jpg")
    _part(page, "save")
    with page.expect_download() as one:
        page.click("#save")
    assert one.value.suggested_filename == "astronaut-cutout.png"
    assert Image.open(one.value.path()).mode == "RGBA"
    _part(page, "background")
    page.check("input[value='#ffffff']", force=True)
    _part(page, "save")
    page.select_option("#format", "jpeg")
    with page.expect_download() as all_:
        page.click("#all")
    target = tmp_path / "all.zip"
    all_.value.save_as(target)
    archive = zipfile.ZipFile(target)
    assert archive.testzip() is None
    assert archive.namelist() == ["01-astronaut-cutout.jpg", "02-chelsea-cutout.jpg"]
    with Image.open(archive.open("01-astronaut-cutout.jpg")) as picture:
        assert picture.size == (512, 512)
        assert picture.getpixel((3, 3)) == (255, 255, 255)


@_PHONE
def test_background_is_painted(page: Any, photo_files: Path) -> None:
    """A corner takes the colour, the blur or the picture that is chosen, and JPEG is offered only then."""
    _done(page, photo_files / "astronaut.jpg")
    assert page.locator("#format option[value=jpeg]").is_disabled()
    page.check("input[value='#ffffff']", force=True)
    assert page.evaluate(_CORNER) == [255, 255, 255, 255]
    assert page.locator("#format option[value=jpeg]").is_enabled()
    page.fill("#color", "#ff8800")
    assert page.evaluate(_CORNER) == [255, 136, 0, 255]
    page.check("input[value='blur']", force=True)
    blurred = page.evaluate(_CORNER)
    assert blurred not in ([255, 136, 0, 255], [255, 255, 255, 255]) and blurred[3] == 255
    page.set_input_files("#picture", photo_files / "coffee.jpg")
    page.wait_for_selector("input[value=picture]:checked", state="attached")
    assert page.evaluate(_CORNER) != blurred


@_PHONE
def test_glass_is_cut_out_again(page: Any, photo_files: Path) -> None:
    """The button sends the photo once more as see-through; a background that is too busy for that is told."""
    _done(page, photo_files / "chelsea.jpg")
    with page.expect_response("**/remove-background") as answer:
        page.click("#glass")
    page.wait_for_selector("#photos .done")
    assert answer.value.status == 200
    assert "see_through" in answer.value.headers["x-notes"]
    page.wait_for_function("() => document.getElementById('note').textContent.includes('too busy')")
    assert page.get_attribute("#glass", "aria-pressed") == "true"
    with page.expect_response("**/remove-background") as answer:
        page.click("#glass")
    page.wait_for_selector("#photos .done")
    assert "x-notes" not in answer.value.headers
    assert page.locator("#note").is_hidden()


@_DESKTOP
def test_keyboard_alone_does_all(page: Any, photo_files: Path) -> None:
    """Without a mouse: the list of keys, zoom, the line between before and after, the next photo, a download."""
    _done(page, photo_files / "chelsea.jpg", photo_files / "coffee.jpg")
    page.keyboard.press("?")
    assert "Zoom in" in page.inner_text("#help")
    page.keyboard.press("Escape")
    page.focus("#stage")
    before = page.inner_text("#percent")
    page.keyboard.press("+")
    page.wait_for_function("before => document.getElementById('percent').textContent !== before", arg=before)
    page.keyboard.press("0")
    page.wait_for_function("before => document.getElementById('percent').textContent === before", arg=before)
    page.keyboard.press("c")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "split"
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.input_value("#split") == "60"
    page.keyboard.press("g")
    assert page.locator("input[value='#ffffff']").is_checked()
    page.keyboard.press("PageDown")
    page.wait_for_selector("#photos .thumb[aria-current=true][aria-label^=coffee]")
    with page.expect_download() as one:
        page.keyboard.press("Control+s")
    assert one.value.suggested_filename == "coffee-cutout.png"
    page.keyboard.press("Delete")
    page.wait_for_function("() => document.querySelectorAll('#photos li').length === 1")


@_DESKTOP
def test_mouse_zooms_and_pans(page: Any, photo_files: Path) -> None:
    """The wheel zooms at the pointer, dragging moves the picture, a double click shows all of it again."""
    _done(page, photo_files / "chelsea.jpg")
    place = "async () => (await import('./viewer.js')).toScreen(0, 0)"
    box = page.locator("#view").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    fitted = page.evaluate(place)
    for _ in range(4):
        page.mouse.wheel(0, -400)
    zoomed = page.evaluate(place)
    assert zoomed["x"] < fitted["x"]
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 30)
    page.mouse.up()
    moved = page.evaluate(place)
    assert (round(moved["x"] - zoomed["x"]), round(moved["y"] - zoomed["y"])) == (40, 30)
    page.mouse.dblclick(*middle)
    assert page.evaluate(place) == fitted


@_DESKTOP
def test_picture_is_copied(page: Any, address: str, photo_files: Path) -> None:
    """The clipboard has the finished picture as PNG; pasting it adds a photo."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    _done(page, photo_files / "coffee.jpg")
    page.click("#copy")
    page.wait_for_function("() => document.getElementById('status').textContent === 'Copied'")
    page.focus("#stage")
    page.keyboard.press("Control+v")
    page.wait_for_function("() => document.querySelectorAll('#photos li').length === 2")


@_PHONE
def test_bad_file_says_why_and_can_be_tried_again(page: Any, tmp_path: Path) -> None:
    """A file that is no photo gets a sentence, another try, and can be taken away."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page.set_input_files("#pick", bad)
    page.wait_for_selector("#photos .failed")
    assert page.inner_text("#message p")
    with page.expect_response("**/remove-background"):
        page.click("#again")
    page.wait_for_selector("#photos .failed")
    page.click("#drop-one")
    assert page.locator("#photos li").count() == 0
    assert page.locator("#work").is_hidden()


@_PHONE
def test_lost_network_loses_nothing(page: Any, photo_files: Path) -> None:
    """Without a network the photo stays and says so; it is cut out once the network is back."""
    page.context.set_offline(True)
    page.set_input_files("#pick", photo_files / "coffee.jpg")
    page.wait_for_selector("#photos .failed")
    assert "cannot be reached" in page.inner_text("#message p")
    page.context.set_offline(False)
    page.wait_for_selector("#photos .done")


@_PHONE
def test_busy_server_is_asked_again(page: Any, photo_files: Path) -> None:
    """A refusal with Retry-After is waited out and told meanwhile."""
    refusals = iter([{"status": 429, "headers": {"Retry-After": "1"}, "body": "{}"}])

    def refuse_once(route: Any) -> None:
        refusal = next(refusals, None)
        route.fulfill(**refusal) if refusal else route.continue_()

    page.route("**/remove-background", refuse_once)
    page.set_input_files("#pick", photo_files / "coffee.jpg")
    page.wait_for_function("() => document.getElementById('chip-text').textContent.includes('busy')")
    page.wait_for_selector("#photos .done")


@_PHONE
def test_what_has_no_place_waits(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """Of twelve photos two wait, by name, while the others are worked on; they are added when there is a place."""
    photos = [tmp_path / f"photo {number:02d}.jpg" for number in range(1, 13)]
    for path in photos:
        path.write_bytes((photo_files / "coffee.jpg").read_bytes())
    page.set_input_files("#pick", photos)
    page.locator("#photos .done").first.wait_for()
    assert page.locator("#photos li").count() == 10
    for name in ("photo 11.jpg", "photo 12.jpg"):
        assert name in page.inner_text("#left")
    page.locator(".remove").last.click(force=True)
    assert page.locator("#photos li").count() == 9
    page.click("#next")
    assert page.locator("#photos li").count() == 10
    assert "photo 12.jpg" in page.inner_text("#left")
    assert "photo 11.jpg" not in page.inner_text("#left")
    page.locator("#photos .done").nth(9).wait_for()
    page.click("#next")
    assert page.locator("#photos li").count() == 1
    page.wait_for_selector("#left", state="hidden")
    assert page.get_attribute("#photos .thumb", "title") == "photo 12"


@_PHONE
def test_what_is_left_out_is_named_and_can_be_forgotten(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """A text among eleven photos is not taken, and the page says which one; the notice goes when it is answered."""
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#pick", [*[photo_files / "coffee.jpg"] * 11, tmp_path / "notes.txt"])
    assert "notes.txt" in page.inner_text("#left")
    page.click("#forget")
    page.wait_for_selector("#left", state="hidden")
    assert page.locator("#photos li").count() == 10


@_PHONE
def test_formats_are_those_that_the_server_reads(page: Any) -> None:
    """What is promised and offered for choice comes from the server."""
    page.wait_for_function("() => document.getElementById('formats').textContent.includes('JPEG')")
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
        tab.wait_for_selector("#photos .failed", timeout=_PATIENCE_MS)
        tab.fill("#key", "wrong")
        tab.press("#key", "Enter")
        tab.wait_for_selector("#key-note:not(:empty)", timeout=_PATIENCE_MS)
        tab.fill("#key", "s3cret")
        tab.press("#key", "Enter")
        tab.wait_for_selector("#photos .done", timeout=_PATIENCE_MS)
        assert tab.locator("#key-form").is_hidden()
        tab.close()


@_PHONE
def test_description_needs_no_outside_resource(page: Any, address: str) -> None:
    """The page about the HTTP interface lists every address, from this server alone."""
    page.goto(f"{address}/docs")
    page.wait_for_selector("#routes section")
    text = page.inner_text("#routes")
    assert "/remove-background" in text
    assert "/v1.0/removebg" in text
