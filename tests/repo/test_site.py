"""The site of the documentation builds without a warning, and holds what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cutray import errors
from cutray.cli import _VERBS
from serve_apps.remover.errors import CODES
from tests.browser import CHROMIUM, started

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocs", reason="the site needs the extra 'docs'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """No page has a script, style, font or picture of another host."""
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"?(https?:[^\"> ]+)", page.read_text())
        styles = re.findall(
            r"<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+href=\"?(https?:[^\"> ]+)", page.read_text()
        )
        assert not loaded + styles, page


def test_search_needs_no_server(site: Path) -> None:
    """The index of the search is a script too, which a page opened from a folder may load."""
    assert "u2netp-distilled" in (site / "search" / "search_index.js").read_text()


@pytest.mark.skipif(not CHROMIUM.is_file(), reason="the search needs a browser")
def test_search_finds_without_a_server(site: Path) -> None:
    """In a browser that opens the pages from their folder, words are found, and no other host is asked."""
    pytest.importorskip("playwright", reason="the search needs a browser")
    asked: list[str] = []
    with started() as browser:
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((site / "index.html").as_uri())
        tab.click(".md-search__input")
        tab.keyboard.type("learning rate")
        first = tab.locator(".md-search-result__item h1").first
        first.wait_for()
        assert first.inner_text() == "Training"
    assert not [one for one in asked if not one.startswith(("file:", "blob:", "data:"))]


def test_reference_is_complete(site: Path) -> None:
    """Every verb, error, code of HTTP and public name stands in the reference."""
    cli, python, codes = ((site / "reference" / f"{name}.html").read_text() for name in ("cli", "python", "errors"))
    assert not [verb for verb in _VERBS if f"cutray {verb}" not in cli]
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert not [name for name in [*kinds, *CODES] if name not in codes]
    assert not [
        name for name in ("BackgroundRemover", "remove_background", "remove_many", "new_session") if name not in python
    ]
    assert "POST /remove-background" in (site / "reference" / "http.html").read_text()
    assert "ray_cutray_requests_total" in (site / "reference" / "metrics.html").read_text()
