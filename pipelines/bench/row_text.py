"""Rows of a table as they are written on the command line: a name, and settings of the remover."""

from __future__ import annotations

import shlex

from cutray.errors import OptionError


def read_row(text: str) -> tuple[str, dict[str, str]]:
    """Read ``NAME: key=value key=value``.

    Args:
        text: What was written.

    Returns:
        The name, and the settings, which may be none.

    Raises:
        OptionError: There is no name, or a setting has no value.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    pairs = [word.partition("=") for word in shlex.split(rest)]
    if not name or not all(sign for _, sign, _ in pairs):
        raise OptionError(got=f"the row {text!r}", allowed='"NAME: setting=value setting=value"')
    return name, {key: value for key, _, value in pairs}
