"""What a Ray that is started here needs of this machine: short paths for its sockets, and workers that import our code.

Call ``local_ray_options`` before ``ray.init(address="local", **options)``.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from cutray.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_config import JobConfig

# A path of a Unix socket has at most 107 bytes on Linux and 103 on macOS. Ray's longest one has 69 below its folder:
# "/ray/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store".
_LONGEST_TEMP_DIR = 103 - 72
_SHORT_TEMP_DIRS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (Ray's own default; its sockets ask for a token)


def local_ray_options() -> dict[str, Any]:
    """Return options of ``ray.init`` for a Ray on this machine, and choose the folder for its sockets.

    Raises:
        ConfigError: No folder for temporary files is usable.
    """
    use_short_temp_dir()
    return {"job_config": installed_code_config()}


def use_short_temp_dir() -> None:
    """Set ``RAY_TMPDIR`` where the folder for temporary files has too long a path for sockets, or is not writable.

    Raises:
        ConfigError: ``RAY_TMPDIR`` itself is unusable, or no other folder is usable.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    if _is_usable(chosen or os.environ.get("TMPDIR") or tempfile.gettempdir()):
        return
    short = next((folder for folder in _SHORT_TEMP_DIRS if _is_usable(folder)), None)
    if chosen or short is None:
        raise ConfigError(
            got=f"Ray cannot keep its sockets in {chosen or os.environ.get('TMPDIR') or tempfile.gettempdir()!r}",
            allowed=f"a folder that may be written to, with a path of at most {_LONGEST_TEMP_DIR} bytes",
            fix="set RAY_TMPDIR to one, such as /tmp",
        )
    os.environ["RAY_TMPDIR"] = short


def _is_usable(folder: str) -> bool:
    """Return whether Ray can make its folder of sockets in a folder, which need not exist yet."""
    path = os.path.abspath(folder)
    if len(os.fsencode(path)) > _LONGEST_TEMP_DIR:
        return False
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


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
