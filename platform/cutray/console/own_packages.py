"""Keeps modules of the user's own from taking the place of the packages that the verbs are in."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from pathlib import Path

import cutray

# Beside the library when installed, one folder above it in a checkout; each with a file that only ours has.
_PACKAGES = {"pipelines": "ray_session.py", "serve_apps": "config_file.py"}


def prefer_own_packages() -> None:
    """Put our folder first on the search path where ``pipelines`` or ``serve_apps`` would be another project's.

    Those names are common. Another project's are found first with ``PYTHONPATH=.``, or with ``python -m cutray`` in its
    folder. Processes that are started from here get the same search path.
    """
    library = Path(cutray.__path__[0]).resolve()
    for name, file in _PACKAGES.items():
        own = next((root / name for root in library.parents[:2] if (root / name / file).is_file()), None)
        if own is None:
            continue
        found = importlib.machinery.PathFinder.find_spec(name)
        if found is not None and os.path.realpath(found.origin or "") == str(own / "__init__.py"):
            continue
        first = str(own.parent)
        sys.path.insert(0, first)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [first, os.environ.get("PYTHONPATH")]))
