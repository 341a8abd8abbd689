"""What HTTP itself asks of the endpoint: methods, headers for pages of other origins, names of files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("httpx")

from cutray.imaging.detect_format import ALLOWED
from serve_apps.remover.page_routes import FORMATS, readable_formats
from serve_apps.remover.responses import EXPOSED_HEADERS
from serve_apps.remover.result_names import clean_name, name_results
from tests.unit.test_serve_api import KEYS, call, make

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "/",
    "/page.json",
    "/health",
    "/studio.js",
    "/page.css",
    "/icon.svg",
    "/docs",
    "/docs.js",
    "/openapi.json",
    "/v1.0/account",
]


@pytest.mark.parametrize("path", PAGES)
def test_head_answers_as_get_without_a_body(path: str) -> None:
    """Monitors ask with HEAD: same status, same type and length as GET."""
    service = make()
    got, head = call(service, "GET", path), call(service, "HEAD", path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_head_of_what_is_refused_is_refused() -> None:
    """HEAD needs a key where GET does, and is no way to upload."""
    assert call(make(api_keys=KEYS), "HEAD", "/model-info").status_code == 401
    assert call(make(), "HEAD", "/nothing").status_code == 404
    refused = call(make(), "HEAD", "/remove-background")
    assert (refused.status_code, refused.content) == (405, b"")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health", "GET, HEAD, OPTIONS"),
        ("/remove-background", "OPTIONS, POST"),
        ("/api/remove", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_allowed_methods_are_named(path: str, allowed: str) -> None:
    """OPTIONS lists them, and so does the answer to another method."""
    options = call(make(), "OPTIONS", path)
    assert (options.status_code, options.headers["allow"]) == (204, allowed)
    refused = call(make(), "DELETE", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    assert call(make(), "OPTIONS", "/nothing").status_code == 404


def test_preflight_is_answered_for_named_origins() -> None:
    """A browser's question before an upload from another site is answered with what it may send."""
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,x-request-id",
    }
    answer = call(make(cors_origins=["https://shop.example"]), "OPTIONS", "/remove-background", headers=headers)
    assert answer.status_code == 200
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_pages_of_other_origins_may_read_every_header_of_ours() -> None:
    """Whatever header the code sets, it is exposed."""
    folder = ROOT / "serve_apps" / "remover"
    set_somewhere = {name for path in folder.glob("*.py") for name in re.findall(r'"(X-[A-Za-z-]+)"', path.read_text())}
    of_requests_or_parts = {"X-API-Key", "X-Status"}
    assert set_somewhere - of_requests_or_parts <= set(EXPOSED_HEADERS)
    answer = call(
        make(cors_origins=["https://shop.example"]), "GET", "/health", headers={"Origin": "https://shop.example"}
    )
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == set(EXPOSED_HEADERS)


def test_page_promises_only_formats_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its package HEIC is not offered; the list is the one of the decoder."""
    names = set(re.findall(r"\w+", ALLOWED)) - {"or"}
    assert names == set(FORMATS)
    assert {entry["name"] for entry in readable_formats()} <= names
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    facts = call(make(api_keys=KEYS), "GET", "/page.json").json()
    assert "HEIC" not in {entry["name"] for entry in facts["formats"]}
    assert facts["key_needed"] is True
    assert call(make(), "GET", "/page.json").json()["key_needed"] is False


def test_page_is_small_and_whole() -> None:
    """All of the page is less than 150 kB in files of at most 350 lines, and loads only what is served."""
    files = [path for path in (ROOT / "serve_apps" / "remover" / "page").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 150_000
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for name in re.findall(r'(?:from "\./|src="|href=")([\w.-]+\.\w+)"', text):
            assert call(make(), "GET", f"/{name}").status_code == 200, f"{path.name}: {name}"
    assert call(make(page=False), "GET", "/studio.js").status_code == 404
    assert call(make(page=False), "GET", "/docs").status_code == 200


@pytest.mark.parametrize(
    ("sent", "clean"),
    [
        ("beach.jpg", "beach.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\me.png", "me.png"),
        ("a\r\nX-Evil: 1\x00.jpg", "a__X-Evil_ 1_.jpg"),
        ("..", ""),
        (".jpg", "jpg"),
        ("con.jpg", "_con.jpg"),
        ("Stra\u00dfe \u96ea.jpg", "Stra\u00dfe \u96ea.jpg"),
        ("caf\u0065\u0301.png", "caf\u00e9.png"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("", ""),
    ],
)
def test_names_of_clients_are_made_safe(sent: str, clean: str) -> None:
    """No folder, control character, direction mark or device stays in a name; letters of all scripts do."""
    assert clean_name(sent) == clean


def test_long_names_fit_every_file_system() -> None:
    """A name is cut off between characters, and keeps its ending."""
    name = clean_name("\u96ea" * 300 + ".jpeg")
    assert name.endswith(".jpeg")
    assert len(name.encode()) < 150


def test_results_are_named_after_their_photos() -> None:
    """Equal names get numbers, also where only the case differs; nameless photos go by their place."""
    uploaded = ["a.jpg", "A.png", "", "broken.gif", "a-2.jpg", "a.tiff", ""]
    endings = ["png", "png", "webp", None, "png", "jpg", "png"]
    named = name_results(uploaded, endings)
    assert named == ["a.png", "A-2.png", "03.webp", None, "a-2-2.png", "a.jpg", "07.png"]
