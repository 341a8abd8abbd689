"""Where weights are found and fetched, and that wrong bytes are never used."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cutray.errors import ChecksumError, WeightsUnavailableError
from cutray.models.weights import ModelSpec, Source, cache_dir, list_models, locate, resolve, verify
from tests.http_servers import serving

PAYLOAD = bytes(range(256)) * 8192
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
MD5 = hashlib.md5(PAYLOAD, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test folders of its own, and pip nothing but a local folder."""
    for name in ("CUTRAY_OFFLINE", "U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "cutray"))
    for name, value in (("CONFIG_FILE", os.devnull), ("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path / "wheels"))):
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "wheels").mkdir()
    return tmp_path / "cutray"


class _Server(ThreadingHTTPServer):
    """Serves PAYLOAD at /file, and cuts the connection after ``cut`` bytes as often as ``cuts`` says."""

    daemon_threads = True
    cuts = 0
    cut = 700_000
    ranges = True
    body = PAYLOAD

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        body, start = self.server.body, 0
        self.server.asked.append(self.headers.get("Range"))  # type: ignore[attr-defined]
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/file")
            self.end_headers()
            return
        if self.path != "/file":
            self.send_error(404)
            return
        if self.server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body)
        if self.server.cuts > 0:
            self.server.cuts -= 1
            end = min(end, start + self.server.cut)
        self.wfile.write(body[start:end])

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[_Server]:
    """Run a web server on this machine."""
    with serving(_Server(("127.0.0.1", 0), _Handler)) as running:
        running.asked = []  # type: ignore[attr-defined]
        yield running


def _spec(*sources: Source, **changes: object) -> ModelSpec:
    """Return a model whose file is PAYLOAD."""
    spec = replace(list_models()[0], name="small", file="small.onnx", size_bytes=len(PAYLOAD), sha256=SHA256)
    return replace(spec, sources=sources, **changes)  # type: ignore[arg-type]


def _wheel(folder: Path, content: bytes = PAYLOAD) -> Source:
    """Write a wheel that says it needs an old Python, as the published ones do."""
    info = "small-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: small\nVersion: 1.0\nRequires-Python: >=3.9,<3.11\nRequires-Dist: absent\n"
    with zipfile.ZipFile(folder / "small-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/small.onnx", content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Source(wheel="small==1.0", member="inner/small.onnx")


def _left_over(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir() if path.name != "small.onnx")


def test_packaged_weights_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found without a cache, and their bytes are the pinned ones."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    packaged = [spec.name for spec in list_models() if spec.packaged]
    assert "u2netp-distilled" in packaged
    for name in packaged:
        found = resolve(name, offline=True)
        assert found.path.stat().st_size == found.spec.size_bytes
        assert verify(name).sha256 == found.spec.sha256


def test_table_is_complete() -> None:
    """Every model in the table has a hash, a place it comes from, and a usable preparation."""
    models = {spec.name: spec for spec in list_models()}
    assert {"u2net", "u2netp", "isnet-general-use"} <= set(models)
    for spec in models.values():
        assert spec.is_pinned
        assert bool(spec.sources) != spec.packaged
        assert all(source.wheel or source.npm or source.url.startswith("https://") for source in spec.sources)
        assert len(spec.mean) == len(spec.std) == 3
        assert spec.license
    assert models["u2net"].size_bytes == 175_997_641
    assert (models["isnet-general-use"].input_size_px, models["isnet-general-use"].scale) == (1024, "255")


def test_wheel(home: Path, tmp_path: Path) -> None:
    """One member is taken out of a wheel that could not be installed here, and nothing else stays."""
    steps: list[tuple[str, int, int | None]] = []
    spec = _spec(_wheel(tmp_path / "wheels"))
    found = resolve("small", models=[spec], progress=lambda *step: steps.append(step))
    assert found.path == home / "models" / "small.onnx"
    assert found.path.read_bytes() == PAYLOAD
    assert found.sha256 == SHA256
    assert steps[-1] == ("small.onnx", len(PAYLOAD), len(PAYLOAD))
    assert _left_over(home) == []


def test_next_source_is_tried(home: Path, server: _Server) -> None:
    """A wheel that pip cannot find is passed over for the address after it."""
    spec = _spec(Source(wheel="absent==1.0", member="x"), Source(url=server.url))
    assert resolve("small", models=[spec]).path.read_bytes() == PAYLOAD


def test_broken_connection_is_resumed(home: Path, server: _Server) -> None:
    """A download that breaks off twice goes on where it stopped."""
    server.cuts = 2
    assert resolve("small", models=[_spec(Source(url=server.url))]).path.read_bytes() == PAYLOAD
    assert server.asked == [None, "bytes=700000-", "bytes=1400000-"]  # type: ignore[attr-defined]


def test_server_without_ranges(home: Path, server: _Server) -> None:
    """A server that starts from the beginning again is understood."""
    server.cuts, server.ranges = 1, False
    assert resolve("small", models=[_spec(Source(url=server.url))]).path.read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    "body", [PAYLOAD[:-1] + b"x", PAYLOAD[:-1], PAYLOAD + b"x"], ids=["changed", "shorter", "longer"]
)
def test_wrong_download_is_refused(home: Path, server: _Server, body: bytes) -> None:
    """One wrong, missing or additional byte is an error, and nothing is kept."""
    server.body = body
    with pytest.raises(ChecksumError):
        resolve("small", models=[_spec(Source(url=server.url))])
    assert list((home / "models").iterdir()) == []


def test_wrong_wheel_is_refused(home: Path, tmp_path: Path) -> None:
    """A wheel whose member has one other byte is an error, and nothing is kept."""
    spec = _spec(_wheel(tmp_path / "wheels", PAYLOAD[:-1] + b"x"))
    with pytest.raises(ChecksumError, match=SHA256):
        resolve("small", models=[spec])
    assert list((home / "models").iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.invalid/file", "ftp://example.invalid/file", "file:///etc/hostname"])
def test_only_https(url: str) -> None:
    """Addresses without encryption, and local files, are not read."""
    with pytest.raises(WeightsUnavailableError, match="not an https address"):
        resolve("small", models=[_spec(Source(url=url))])


def test_redirect_away_from_https(server: _Server) -> None:
    """A redirect to an address without encryption is not followed."""
    with pytest.raises(WeightsUnavailableError, match="not an https address"):
        resolve("small", models=[_spec(Source(url=server.url.replace("/file", "/moved")))])


def test_missing_address(server: _Server) -> None:
    """An answer of 404 is told as such, at once."""
    with pytest.raises(WeightsUnavailableError, match="404"):
        resolve("small", models=[_spec(Source(url=server.url + "x"))])


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline(home: Path, server: _Server, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Offline, nothing is fetched, and the error says what is missing, where it was looked for and how to get it."""
    if how == "environment":
        monkeypatch.setenv("CUTRAY_OFFLINE", "1")
    spec = _spec(Source(wheel="small==1.0", member="inner/small.onnx"), Source(url=server.url))
    with pytest.raises(WeightsUnavailableError) as caught:
        resolve("small", offline=how == "argument", models=[spec])
    text = str(caught.value)
    for part in (
        "small.onnx",
        f"{len(PAYLOAD):,}",
        str(home),
        ".u2net",
        ".rembg",
        "pip download",
        server.url,
        "models pull",
    ):
        assert part in text
    assert server.asked == []  # type: ignore[attr-defined]


def test_changed_byte_in_the_cache(home: Path) -> None:
    """A cached file that changes, even with its size and time kept, is refused."""
    spec, path = _spec(), home / "models" / "small.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(PAYLOAD)
    assert resolve("small", offline=True, models=[spec]).sha256 == SHA256
    status = path.stat()
    path.write_bytes(b"x" + PAYLOAD[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ChecksumError, match=r"small\.onnx") as caught:
        resolve("small", models=[spec])
    assert "run `cutray models pull small`" in str(caught.value).lower()


def test_verify_reads_every_byte(home: Path) -> None:
    """An unchanged file is not read again by resolve, but verify reads it."""
    spec, path = _spec(), home / "models" / "small.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(PAYLOAD)
    resolve("small", models=[spec])
    note = next((home / "verified").iterdir())
    note.write_text(note.read_text().replace(SHA256, "0" * 64))
    with pytest.raises(ChecksumError, match=r"0{64}"):
        resolve("small", models=[spec])
    note.unlink()
    assert verify("small", models=[spec]).sha256 == SHA256
    path.write_bytes(PAYLOAD[:-1] + b"x")
    with pytest.raises(ChecksumError):
        verify("small", models=[spec])


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("U2NET_HOME", "small.onnx"),
        ("U2NET_HOME", "models/small/small.onnx"),
        ("REMBG_HOME", "models/small/small.onnx"),
        ("XDG_DATA_HOME", "rembg/models/small/small.onnx"),
        ("XDG_DATA_HOME", ".u2net/small.onnx"),
        ("HOME", ".rembg/models/small/small.onnx"),
        ("HOME", ".u2net/small.onnx"),
    ],
)
def test_folders_of_rembg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str) -> None:
    """A file that rembg has fetched is used where it lies; one with other bytes is passed over."""
    path = tmp_path / "theirs" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(PAYLOAD)
    monkeypatch.setenv(variable, str(tmp_path / "theirs"))
    assert resolve("small", offline=True, models=[_spec()]).path == path
    path.write_bytes(PAYLOAD + b"x")
    assert locate(_spec()) is None


def test_md5_where_nothing_else_is_known(server: _Server) -> None:
    """A model that only has an md5 is checked by it."""
    good = _spec(Source(url=server.url), sha256="", size_bytes=0, md5=MD5)
    assert resolve("small", models=[good]).sha256 == SHA256
    with pytest.raises(ChecksumError, match="md5"):
        resolve("small", models=[replace(good, file="other.onnx", md5="0" * 32)])


def test_read_only_cache(home: Path) -> None:
    """A file in a cache that cannot be written is used; its hash is taken each time."""
    (home / "models").mkdir(parents=True)
    (home / "models" / "small.onnx").write_bytes(PAYLOAD)
    (home / "verified").write_text("a file where the folder of notes would be")
    assert resolve("small", offline=True, models=[_spec()]).sha256 == SHA256


def test_cache_that_cannot_be_made(home: Path, server: _Server) -> None:
    """Without a folder to write to, the error names the variable that moves it."""
    home.write_text("a file where the folder would be")
    with pytest.raises(WeightsUnavailableError, match="cannot be written"):
        resolve("small", models=[_spec(Source(url=server.url))])


def test_two_processes_at_once(home: Path, server: _Server) -> None:
    """Processes that fetch the same file at the same time all get it whole."""
    code = (
        "import sys; from dataclasses import replace; from cutray.models.weights import *\n"
        f"spec = replace(list_models()[0], name='small', file='small.onnx', size_bytes={len(PAYLOAD)},"
        f" sha256='{SHA256}', sources=(Source(url='{server.url}'),))\n"
        "print(resolve('small', models=[spec]).sha256)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=_environment())
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == [SHA256] * 3
    assert _left_over(home) == []


def test_no_deep_learning_package_is_loaded() -> None:
    """Finding weights and looking at the machine load neither torch nor an engine."""
    code = (
        "import sys, cutray.models.weights, cutray.engines.select, cutray.engines.hardware as h; h.inspect_hardware()\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(), check=True)
    assert done.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    """Return this process's environment with its import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CUTRAY_HOME decides, then the platform's rules."""
    assert cache_dir() == tmp_path / "cutray"
    monkeypatch.delenv("CUTRAY_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "cutray"
