"""The page in a real browser: photos in, cutouts out, nothing from outside."""

from __future__ import annotations

import importlib.util
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import (
    CHROMIUM,
    ON_DESKTOP,
    ON_PHONE,
    add_photos,
    color_at,
    open_part,
)
from tests.conftest import require_weights

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")
_CUT = re.compile("/(edits|remove-background)$")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the endpoint with the small model."""
    from tests.endpoint import running, write_config

    require_weights("u2netp")
    config = write_config(tmp_path_factory.mktemp("page") / "serve.yaml")
    with running(config, "--model", "u2netp", "--offline") as (url, _):
        yield url


def test_photos_become_files(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """Two photos are cut out; one is downloaded on its own, both together as a zip with whole pictures."""
    add_photos(page, photo_files / "astronaut.jpg", photo_files / "chelsea.jpg")
    open_part(page, "save")
    with page.expect_download() as one:
        page.click("#save")
    assert one.value.suggested_filename == "astronaut-cutout.png"
    assert Image.open(one.value.path()).mode == "RGBA"
    open_part(page, "background")
    page.check("[name=background][value='#ffffff']", force=True)
    open_part(page, "save")
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


@ON_PHONE
def test_background_is_painted(page: Any, photo_files: Path) -> None:
    """A corner takes the colour, the blur or the picture that is chosen, and JPEG is offered only then."""
    add_photos(page, photo_files / "astronaut.jpg")
    open_part(page, "background")
    assert page.locator("#format option[value=jpeg]").is_disabled()
    page.check("[name=background][value='#ffffff']", force=True)
    assert color_at(page, 0.01, 0.01) == [255, 255, 255, 255]
    assert page.locator("#format option[value=jpeg]").is_enabled()
    page.fill("#color", "#ff8800")
    assert color_at(page, 0.01, 0.01) == [255, 136, 0, 255]
    page.check("[name=background][value=blur]", force=True)
    blurred = color_at(page, 0.01, 0.01)
    assert blurred not in ([255, 136, 0, 255], [255, 255, 255, 255]) and blurred[3] == 255
    page.set_input_files("#picture", photo_files / "coffee.jpg")
    page.wait_for_selector("input[value=picture]:checked", state="attached")
    assert color_at(page, 0.01, 0.01) != blurred


@ON_PHONE
def test_glass_is_cut_out_again(page: Any, photo_files: Path) -> None:
    """The button sends the photo once more as see-through; a background that is too busy for that is told."""
    add_photos(page, photo_files / "chelsea.jpg")
    open_part(page, "background")
    with page.expect_response(_CUT) as answer:
        page.click("#glass")
    assert answer.value.ok
    page.wait_for_function("() => document.getElementById('note').textContent.includes('too busy')")
    assert page.get_attribute("#glass", "aria-pressed") == "true"
    with page.expect_response(_CUT):
        page.click("#glass")
    page.wait_for_selector("#photos .done")
    page.wait_for_selector("#note", state="hidden")


@ON_DESKTOP
def test_keyboard_alone_does_all(page: Any, photo_files: Path) -> None:
    """Without a mouse: the list of keys, zoom, the line between before and after, the next photo, a download."""
    add_photos(page, photo_files / "chelsea.jpg", photo_files / "coffee.jpg")
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
    assert page.locator("[name=background][value='#ffffff']").is_checked()
    page.keyboard.press("PageDown")
    page.wait_for_selector("#photos .thumb[aria-current=true][aria-label^=coffee]")
    with page.expect_download() as one:
        page.keyboard.press("Control+s")
    assert one.value.suggested_filename == "coffee-cutout.png"
    page.keyboard.press("Delete")
    page.wait_for_function("() => document.querySelectorAll('#photos li').length === 1")


@ON_DESKTOP
def test_mouse_zooms_and_pans(page: Any, photo_files: Path) -> None:
    """The wheel zooms at the pointer, dragging moves the picture, a double click shows all of it again."""
    add_photos(page, photo_files / "chelsea.jpg")
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


@ON_DESKTOP
def test_picture_is_copied(page: Any, address: str, photo_files: Path) -> None:
    """The clipboard has the finished picture as PNG; pasting it adds a photo."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    add_photos(page, photo_files / "coffee.jpg")
    page.click("#copy")
    page.wait_for_function("() => document.getElementById('status').textContent === 'Copied'")
    page.focus("#stage")
    page.keyboard.press("Control+v")
    page.wait_for_function("() => document.querySelectorAll('#photos li').length === 2")


@ON_PHONE
def test_endpoint_without_edits_has_no_tools(page: Any, address: str, photo_files: Path) -> None:
    """In front of an endpoint that keeps no edits and lays nothing out, the page hides what it cannot do."""
    plain = page.request.get(f"{address}/openapi.json").json()
    plain["paths"] = {path: verbs for path, verbs in plain["paths"].items() if not path.startswith("/edits")}
    form = plain["paths"]["/remove-background"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"].pop("size")
    page.route("**/openapi.json", lambda route: route.fulfill(body=json.dumps(plain)))
    page.reload()
    with page.expect_response("**/remove-background"):
        add_photos(page, photo_files / "coffee.jpg")
    assert page.locator("#part-tools").is_hidden()
    assert page.locator("#bar [aria-controls=part-layout]").is_hidden()
    open_part(page, "save")
    with page.expect_download():
        page.click("#save")


@ON_PHONE
def test_bad_file_says_why_and_can_be_tried_again(page: Any, tmp_path: Path) -> None:
    """A file that is no photo gets a sentence, another try, and can be taken away."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page.set_input_files("#pick", bad)
    page.wait_for_selector("#photos .failed")
    assert page.inner_text("#message p")
    with page.expect_response(_CUT):
        page.click("#again")
    page.wait_for_selector("#photos .failed")
    page.click("#drop-one")
    assert page.locator("#photos li").count() == 0
    assert page.locator("#work").is_hidden()


@ON_PHONE
def test_lost_network_loses_nothing(page: Any, photo_files: Path) -> None:
    """Without a network the photo stays and says so; it is cut out once the network is back."""
    page.context.set_offline(True)
    page.set_input_files("#pick", photo_files / "coffee.jpg")
    page.wait_for_selector("#photos .failed")
    assert "cannot be reached" in page.inner_text("#message p")
    page.context.set_offline(False)
    page.wait_for_selector("#photos .done")


@ON_PHONE
def test_busy_server_is_asked_again(page: Any, photo_files: Path) -> None:
    """A refusal with Retry-After is waited out and told meanwhile."""
    refusals = iter([{"status": 429, "headers": {"Retry-After": "1"}, "body": "{}"}])

    def refuse_once(route: Any) -> None:
        refusal = next(refusals, None)
        route.fulfill(**refusal) if refusal else route.continue_()

    page.route(_CUT, refuse_once)
    page.set_input_files("#pick", photo_files / "coffee.jpg")
    page.wait_for_function("() => document.getElementById('chip-text').textContent.includes('busy')")
    page.wait_for_selector("#photos .done")


@ON_PHONE
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


@ON_PHONE
def test_what_is_left_out_is_named_and_can_be_forgotten(page: Any, photo_files: Path, tmp_path: Path) -> None:
    """A text among eleven photos is not taken, and the page says which one; the notice goes when it is answered."""
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#pick", [*[photo_files / "coffee.jpg"] * 11, tmp_path / "notes.txt"])
    assert "notes.txt" in page.inner_text("#left")
    page.click("#forget")
    page.wait_for_selector("#left", state="hidden")
    assert page.locator("#photos li").count() == 10


@ON_PHONE
def test_formats_are_those_that_the_server_reads(page: Any) -> None:
    """What is promised and offered for choice comes from the server."""
    page.wait_for_function("() => document.getElementById('formats').textContent.includes('JPEG')")
    promised = page.inner_text("#formats")
    accepted = page.get_attribute("#pick", "accept")
    assert ("HEIC" in promised) == ("image/heic" in accepted) == (importlib.util.find_spec("pillow_heif") is not None)
    assert "image/*" not in accepted


@ON_PHONE
def test_description_needs_no_outside_resource(page: Any, address: str) -> None:
    """The page about the HTTP interface lists every address, from this server alone."""
    page.goto(f"{address}/docs")
    page.wait_for_selector("#routes section")
    text = page.inner_text("#routes")
    assert "/remove-background" in text
    assert "/v1.0/removebg" in text
