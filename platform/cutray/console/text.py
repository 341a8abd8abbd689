"""Names of files as text that is safe to print."""

from __future__ import annotations

import os


def printable(name: str | os.PathLike[str]) -> str:
    r"""Escape what a terminal would act on or cannot show.

    Args:
        name: A file name; bytes that are no UTF-8 are in it as Python's surrogates.

    Returns:
        The same text with control characters, line breaks and such bytes as escapes.

    >>> printable("a\x1b[2Jb.jpg"), printable("caf\udce9.jpg")
    ('a\\x1b[2Jb.jpg', 'caf\\xe9.jpg')
    """
    return "".join(_escaped(character) for character in os.fspath(name))


def _escaped(character: str) -> str:
    """Escape one character that is not printable."""
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
