"""``python -m cutray``: the same as ``cutray``."""

import os
import sys

# Python puts the current folder first on the path, where a `pipelines.py` or `numpy.py` would hide the real one.
if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()) and not os.path.exists("cutray/__main__.py"):
    del sys.path[0]

from cutray.cli import entry_point

entry_point()
