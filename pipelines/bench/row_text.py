"""Rows of a table as they are written on the command line: a name, and settings of the remover."""

from __future__ import annotations

import shlex
from typing import Any

from cutray.errors import OptionError
from pipelines.run_settings import assign_changes


def read_row(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME: key=value key=value``.

    Args:
        text: What was written.

    Returns:
        The name, and the settings, which may be none.

    Raises:
        OptionError: There is no name, or a setting has no value.
        ConfigError: A value cannot be read.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    words = shlex.split(rest)
    if not name or not all("=" in word for word in words):
        raise OptionError(got=f"the row {text!r}", allowed='"NAME: setting=value setting=value"')
    values: dict[str, Any] = {}
    assign_changes(values, words)
    return name, values
