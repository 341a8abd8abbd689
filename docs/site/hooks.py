"""Called by mkdocs while it builds the site: adds pages generated from code, and mends links out of docs/."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import command_line
import error_codes
import http_api
import metric_names
import python_api
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Pages that lie in the repository's root.
FROM_ROOT = ("changelog.md", "contributing.md")
# Page → what writes it.
GENERATED: dict[str, Callable[[], str]] = {
    "changelog.md": lambda: (ROOT / "CHANGELOG.md").read_text(),
    "contributing.md": lambda: (ROOT / "CONTRIBUTING.md").read_text(),
    "reference/cli.md": command_line.page,
    "reference/errors.md": error_codes.page,
    "reference/http.md": http_api.page,
    "reference/metrics.md": metric_names.page,
    "reference/python.md": python_api.page,
}


def _listed(entry: Any) -> Iterator[str]:
    """Yield the pages of the navigation."""
    if isinstance(entry, str):
        yield entry
    for below in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []:
        yield from _listed(below)


def on_config(config: Any) -> Any:
    """List the decisions at the end of the navigation, and before them pages that it does not name yet."""
    here = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    missing = set(here) - set(_listed(config["nav"]))
    decisions = [name for name in here if name.startswith("decisions/")]
    if others := sorted(missing - set(decisions)):
        config["nav"].append({"More": others})
    config["nav"].append({"Decisions": decisions})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to those that lie in docs/."""
    for name, write in GENERATED.items():
        files.append(File.generated(config, name, content=write()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository outside docs/ into their paths: the site does not hold those files."""
    folder = ROOT if page.file.src_uri in FROM_ROOT else (ROOT / "docs" / page.file.src_uri).parent

    def path_instead(match: re.Match[str]) -> str:
        target = (folder / match["target"]).resolve()
        if target.is_relative_to(ROOT / "docs") and not target.is_dir():
            inside = target.relative_to(ROOT / "docs").as_posix()
            return f"[{match['text']}]({inside})" if folder == ROOT else match[0]
        if not target.is_relative_to(ROOT):
            return match[0]
        path = target.relative_to(ROOT).as_posix()
        return f"`{path}`" if match["text"].strip("`") in path else f"{match['text']} (`{path}`)"

    return re.sub(r"(?<!!)\[(?P<text>[^\]]+)\]\((?!\w+:|#)(?P<target>[^)#]+)(?:#[^)]*)?\)", path_instead, markdown)
