"""What a Ray that is started here needs of this machine: short paths for its sockets, and workers that import our code.

Call ``local_ray_options`` before ``ray.init(address="local", **options)``.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from cutray.errors import ConfigError, CutrayError

if TYPE_CHECKING:
    from ray.job_config import JobConfig

# A path of a Unix socket has at most 107 bytes on Linux and 103 on macOS. Ray's longest one has 69 below its folder:
# "/ray/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store".
_LONGEST_TEMP_DIR = 103 - 72
_GAVE_UP = "timed out during startup"  # in ray._private.node, of Ray 2.60
_SHORT_TEMP_DIRS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (Ray's own default; its sockets ask for a token)


@contextmanager
def told_when_too_busy() -> Iterator[None]:
    """Turn Ray's bare exception into an error of ours, where it gives up starting.

    Raises:
        CutrayError: Ray gave up, because the machine is too busy.
    """
    try:
        yield
    except Exception as error:  # Ray has no class for this one
        if _GAVE_UP not in str(error):
            raise
        raise CutrayError(
            got="Ray did not start within the 30 s that it allows itself: this machine is too busy",
            fix="try again, or end other programs first; what is done stays done",
        ) from error


def set_local_token(environ: MutableMapping[str, str] = os.environ) -> None:
    """Give a Ray that this process starts a token of its own; call it before Ray is imported.

    No other program can join then, and Ray writes none into the home folder, which need not exist.
    """
    if environ.get("RAY_AUTH_MODE") == "token" and not environ.get("RAY_AUTH_TOKEN_PATH"):
        environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def local_ray_options() -> dict[str, Any]:
    """Return options of ``ray.init`` for a Ray on this machine, and choose the folder for its sockets.

    Raises:
        ConfigError: No folder for temporary files is usable.
    """
    use_short_temp_dir()
    return {"job_config": installed_code_config()}


def use_short_temp_dir() -> None:
    """Set ``RAY_TMPDIR``, and say so, where Ray cannot keep its sockets in the folder for temporary files.

    Raises:
        ConfigError: ``RAY_TMPDIR`` itself is unusable, or no other folder is usable.
    """
    if sys.platform == "win32":  # no such sockets there
        return
    # Ray takes the first of these that is set, even when it is empty.
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    usual = os.environ[variable] if variable else "/tmp"  # noqa: S108
    problem = _problem(usual)
    if problem is None:
        return
    short = next((folder for folder in _SHORT_TEMP_DIRS if _problem(folder) is None), None)
    if (variable == "RAY_TMPDIR" and usual) or short is None:
        raise ConfigError(
            got=f"Ray cannot keep its sockets in {usual!r}: {variable or 'it'} {problem}",
            allowed=f"a folder that may be written to, with an absolute path of at most {_LONGEST_TEMP_DIR} bytes",
            fix="set RAY_TMPDIR to one, such as /tmp",
        )
    os.environ["RAY_TMPDIR"] = short
    if usual:
        click.echo(f"note: {variable or usual} {problem}, so Ray's files go to {short}", err=True)


def _problem(folder: str) -> str | None:
    """Say why Ray cannot keep its sockets in a folder, or return None when it can."""
    if not os.path.isabs(folder):
        return "is not an absolute path"
    if not folder.isascii():
        return "has characters that Ray's addresses cannot have"
    if len(folder.rstrip("/")) > _LONGEST_TEMP_DIR:
        return f"is too long for the names of sockets ({len(folder)} bytes)"
    if not os.path.isdir(folder):
        return "is not a folder that exists"
    return None if os.access(folder, os.W_OK | os.X_OK) else "may not be written to"


def installed_code_config() -> JobConfig:
    """Return a job configuration by which workers import installed code alone.

    By default Ray puts the driver's working folder first on the workers' search path. A file of the user's there,
    such as ``pipelines.py`` or ``queue.py``, would then take the place of our module or of the standard library's.
    """
    from ray.job_config import JobConfig

    class InstalledCodeConfig(JobConfig):  # type: ignore[misc, unused-ignore]
        """Takes no folder to search for modules: ``ray.init`` extends the list that it gets here."""

        @property
        def _py_driver_sys_path(self) -> list[str]:
            return []

        @_py_driver_sys_path.setter
        def _py_driver_sys_path(self, _folders: list[str]) -> None:
            pass

    return InstalledCodeConfig()
