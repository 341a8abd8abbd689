"""``python -m cutray``: the same as ``cutray``."""

from cutray.cli import entry_point

entry_point()
