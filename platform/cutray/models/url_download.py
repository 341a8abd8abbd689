"""Download a weight file from an address over https; what was interrupted goes on where it stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from cutray.errors import ChecksumError, WeightsUnavailableError
from cutray.file_lock import lock_file
from cutray.models.catalog import ModelSpec, Source
from cutray.models.hashing import Hasher
from cutray.models.transfer import Progress, check_transfer, copy_blocks, read_blocks

_TIMEOUT_S = 30.0
_TRIES = 5
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def fetch_url(spec: ModelSpec, source: Source, part: Path, progress: Progress | None) -> None:
    """Download an address, going on with what an earlier try has left beside ``part``.

    Args:
        spec: What the file must be.
        source: The address.
        part: A file of this process's own; it holds the whole file afterwards.
        progress: Called with the file's name, the bytes so far, and all bytes or None.

    Raises:
        ChecksumError: The bytes are not the pinned ones.
        WeightsUnavailableError: The address cannot be read; what was read is kept for the next try.
    """
    kept = part.with_name(f"{spec.file}.partial")
    with _claim(kept) as claimed:
        if claimed is None:  # another process downloads the same file
            with part.open("w+b") as out:
                _download(spec, source, out, progress)
            return
        started_with = os.fstat(claimed.fileno()).st_size
        try:
            try:
                _download(spec, source, claimed, progress)
            except ChecksumError:
                if not started_with:
                    raise
                claimed.truncate(0)  # the earlier try may have been of another file
                _download(spec, source, claimed, progress)
        except ChecksumError:
            kept.unlink(missing_ok=True)
            raise
        os.replace(kept, part)


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[IO[bytes] | None]:
    """Open a file that is kept between tries, for this process alone; yields None where that is not possible."""
    with path.open("a+b") as stream:
        try:
            ours = lock_file(stream, wait=False) is True
            # Its former owner may have moved it to its place meanwhile.
            ours = ours and path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat())
        except OSError:
            ours = False
        yield stream if ours else None


def _download(spec: ModelSpec, source: Source, out: IO[bytes], progress: Progress | None) -> None:
    """Download what a file lacks; a broken connection is tried again."""
    hasher = Hasher(with_md5=bool(spec.md5))
    out.seek(0)
    for block in read_blocks(out):
        hasher.update(block)
    complete = bool(spec.size_bytes) and hasher.size_bytes == spec.size_bytes
    for attempt in range(0 if complete else _TRIES):
        try:
            with _open(source.url, start=hasher.size_bytes) as (stream, resumed, total):
                if not resumed:
                    hasher = _restart(spec, out)
                copy_blocks(spec, read_blocks(stream), out, hasher, progress)
            if total is None or hasher.size_bytes >= total:
                break
        except urllib.error.HTTPError as error:
            problem: Exception = error
            if error.code == 416 and hasher.size_bytes:  # there is no such part: what we have is of another file
                hasher = _restart(spec, out)
            elif error.code < 500:
                raise WeightsUnavailableError(got=f"{source.url} answered {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = error
        else:
            problem = ConnectionError(f"the connection ended after {hasher.size_bytes} of {total} bytes")
        if attempt == _TRIES - 1:
            kept = (
                f"; {hasher.size_bytes / 1e6:.1f} MB are kept, the next try goes on there" if hasher.size_bytes else ""
            )
            raise WeightsUnavailableError(got=f"{source.url} could not be read: {problem}{kept}") from problem
        time.sleep(min(0.2 * 2**attempt, 5.0))
    out.flush()
    check_transfer(spec, source, hasher)


def _restart(spec: ModelSpec, out: IO[bytes]) -> Hasher:
    """Forget what was read so far."""
    out.seek(0)
    out.truncate()
    return Hasher(with_md5=bool(spec.md5))


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
