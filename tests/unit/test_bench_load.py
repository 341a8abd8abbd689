"""The load test speaks to an endpoint as its users do, with a key where one is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("psutil")

from pipelines.bench.load import load


class _Guarded(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.headers.get("X-API-Key") == "secret" else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Guarded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/remove-background"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("words", "variables", "code"),
    [([], {}, 1), (["--api-key", "secret"], {}, 0), ([], {"CUTRAY_API_KEY": "secret"}, 0)],
)
def test_a_key_is_sent(words: list[str], variables: dict[str, str], code: int, url: str, tmp_path: Path) -> None:
    """Without the key every request fails; with it, by option or variable, none does."""
    (tmp_path / "a.jpg").write_bytes(b"photo")
    arguments = [str(tmp_path / "a.jpg"), "--url", url, "--seconds", "1", "--concurrency", "1", *words]
    done = CliRunner(env=variables).invoke(load, arguments, standalone_mode=False, catch_exceptions=False)
    assert done.return_value == code
    assert "secret" not in done.output
