"""Where files of the user go: also where there is no home folder, as in a container with a user id of its own."""

from __future__ import annotations

import getpass
import logging
import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

from cutray.errors import ConfigError

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Return the folder for downloads and remembered hashes, as an absolute path; it may not exist yet.

    It is the first of: ``CUTRAY_HOME``; ``cutray`` in ``XDG_CACHE_HOME``; ``cutray`` in the platform's cache folder
    of the home; a folder of this user among the temporary ones, if there is no home that can be written.

    Raises:
        ConfigError: ``CUTRAY_HOME`` begins with a home folder that is not known.
    """
    own = os.environ.get("CUTRAY_HOME", "")
    if own.strip():
        return expand_user(own, "CUTRAY_HOME").absolute()
    # Source: XDG Base Directory Specification 0.8: empty and relative values are ignored.
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "cutray"
    found = _platform_cache()
    if found and _can_be_made(found / "cutray"):
        return found / "cutray"
    return _temporary_cache(found)


def data_dir(name: str, home_name: str) -> Path | None:
    """Return a folder of the user's data: in ``XDG_DATA_HOME``, else in the home; None where there is no home.

    Args:
        name: Folder in ``XDG_DATA_HOME``.
        home_name: Folder in the home.
    """
    base, home = os.environ.get("XDG_DATA_HOME", ""), home_dir()
    if os.path.isabs(base):
        return Path(base) / name
    return home / home_name if home else None


def home_dir() -> Path | None:
    """Return the home folder, or None where neither the environment nor the user database knows one."""
    home = os.environ.get("USERPROFILE" if sys.platform == "win32" else "HOME", "")
    if not os.path.isabs(home) and sys.platform != "win32":
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:  # a user id without a name
            return None
    return Path(home) if os.path.isabs(home) else None


def provide_home() -> None:
    """Set a home folder and a user name in the environment where there are none: some libraries insist on both."""
    if home_dir() is None:
        folder = str(cache_dir())
        os.environ["CUTRAY_HOME"] = folder  # so that the cache stays where it is
        os.environ["HOME"] = folder
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a user id without a name; OSError from Python 3.13 on
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def expand_user(path: str, what: str) -> Path:
    """Replace a leading ``~`` by the home folder.

    Args:
        path: As the user wrote it.
        what: What it is, for the error.

    Raises:
        ConfigError: That home is not known. Without this error a folder named ``~`` would be made.
    """
    home = home_dir()
    if path == "~" or path.startswith("~/"):
        if home:
            return Path(home, path[2:])
    elif not (expanded := os.path.expanduser(path)).startswith("~"):
        return Path(expanded)
    elif os.path.exists(path):
        return Path(path)
    raise ConfigError(got=f"{what} is {path!r}, and that home folder is not known", fix="write the path in full")


def _platform_cache() -> Path | None:
    """Return the folder in which programs of this user keep their caches, or None without a home."""
    if sys.platform == "win32" and os.path.isabs(local := os.environ.get("LOCALAPPDATA", "")):
        return Path(local)
    home = home_dir()
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") if home else None


def _can_be_made(folder: Path) -> bool:
    """Tell whether a folder exists, or its nearest parent lets this user make it."""
    parents = [folder, *folder.parents]
    nearest = next((one for one in parents if os.path.lexists(one)), parents[-1])
    return nearest == folder or (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK))


@cache
def _temporary_cache(wanted: Path | None) -> Path:
    """Return a folder that no other user can write to, and say so once.

    Args:
        wanted: The cache folder that cannot be made; None where there is no home.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()).absolute() / f"cutray-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        ours = stat.S_ISDIR(status.st_mode) and (user == "user" or status.st_uid == user) and not status.st_mode & 0o022
    except OSError:
        ours = False
    if not ours:  # somebody else was there first, and could put other weights into it
        folder = Path(tempfile.mkdtemp(prefix="cutray-"))
    reason = f"{wanted} cannot be written" if wanted else "this user has no home folder"
    _log.warning("%s: downloads are kept in %s. Set CUTRAY_HOME to a folder that lasts", reason, folder)
    return folder
