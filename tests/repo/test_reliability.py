"""The table of promises in docs/reliability.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text().partition("## The endpoint under load")[0]
ROWS = [row for row in re.findall(r"^\| (?!\*\*|kind|-)(.*) \|$", TEXT, flags=re.MULTILINE) if "---" not in row]


def test_table_is_found() -> None:
    """There are rows of all kinds."""
    assert len(ROWS) >= 20
    assert len(re.findall(r"^\| \*\*", TEXT, flags=re.MULTILINE)) >= 5


@pytest.mark.parametrize("row", ROWS)
def test_promise_is_kept_by_tests_that_exist(row: str) -> None:
    """Each row ends with files of tests, and with functions in them where it names one."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.rsplit(" | ", 1)[1])
    assert named
    for file, function in named:
        source = (ROOT / file).read_text()
        assert not function or f"def {function}(" in source
