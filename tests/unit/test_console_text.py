"""Names of files are safe to print, whatever bytes are in them."""

from __future__ import annotations

import os

import pytest

from cutray.console.text import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a b.jpg", "a b.jpg"),
        ("café 日本 😀.jpg".encode(), "café 日本 😀.jpg"),
        (b"caf\xe9.jpg", "caf\\xe9.jpg"),
        (b"two\nlines\ttab\r.jpg", "two\\nlines\\ttab\\r.jpg"),
        (b"\x1b[31mred\x07.jpg", "\\x1b[31mred\\x07.jpg"),
        ("‮gpj.exe".encode(), "\\u202egpj.exe"),
    ],
)
def test_names_are_escaped(name: bytes, shown: str) -> None:
    """Letters of all languages stay; control characters, line breaks and bytes that are no UTF-8 are escaped."""
    text = printable(os.fsdecode(name))
    assert text == shown
    text.encode()
