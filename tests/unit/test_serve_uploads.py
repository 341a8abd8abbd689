"""How bodies are read: in memory, without what a browser's form leaves empty, and with nothing left out in silence."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("httpx")

from starlette.requests import Request

from serve_apps.jobs.bodies import read_form
from serve_apps.remover.errors import RemoveBgError
from serve_apps.remover.removebg_request import read_photo
from serve_apps.remover.schemas import Limits
from serve_apps.remover.uploads import Upload, UploadedFile, pick_background, pick_images, read_upload
from tests.unit.test_serve_api import call, make

MIB = 1 << 20
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def form(*parts: tuple[str, str | None, bytes]) -> Request:
    """Return a request with a form of parts: name of the field, name of the file or None, content."""
    body = b""
    for field, name, data in parts:
        file = "" if name is None else f'; filename="{name}"'
        body += f'--cut\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    body += b"--cut--\r\n"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=cut")]
    return Request({"type": "http", "method": "POST", "headers": headers, "query_string": b""}, receive)


def test_photos_are_never_written_to_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form with a large photo is read where no temporary file can be made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    photo = bytes(3 * MIB)
    upload = asyncio.run(read_upload(form(("image", "a.jpg", photo)), Limits(), max_files=1))
    assert upload.files == [UploadedFile("image", photo, "a.jpg")]


def test_inputs_without_a_choice_are_no_files() -> None:
    """A browser sends them without a name and without a byte; a file that is empty, or has no name, still counts."""
    request = form(
        ("image", "a.jpg", b"photo"), ("background_image", "", b""), ("image", "", b"raw"), ("format", None, b"png")
    )
    upload = asyncio.run(read_upload(request, Limits(), max_files=2))
    assert [image.data for image in pick_images(upload, ("image",), most=2)] == [b"photo", b"raw"]
    assert (pick_background(upload), upload.fields) == (None, {"format": "png"})
    upload = asyncio.run(read_upload(form(("image", "empty.jpg", b"")), Limits(), max_files=1))
    assert upload.files == [UploadedFile("image", b"", "empty.jpg")]


def test_inputs_without_a_choice_are_no_photos_of_a_job() -> None:
    """Neither a photo that fails, nor a ZIP, nor a background."""
    request = form(
        ("images", "a.jpg", b"photo"), *((name, "", b"") for name in ("images", "archive", "background_image"))
    )
    body = asyncio.run(read_form(request, 5))
    assert body is not None
    assert [(name, file.read()) for name, file in body.photos] == [("a.jpg", b"photo")]
    assert (body.archive, body.background) == (None, None)
    body.close()


@pytest.mark.parametrize(("action", "own"), [("strokes", "strokes"), ("result", "background_image")])
def test_files_without_a_place_in_an_edit_are_refused(action: str, own: str) -> None:
    """Under another name, as a raw body or in JSON, they would be left out, and nobody would know why."""
    wrong: list[dict[str, Any]] = [
        {"files": {"mask": PNG}},
        {"files": {"background": PNG}},
        {"files": {f"{own}[]": PNG}},
        {"files": {own: PNG, "other": PNG}},
        {"content": PNG},
        {"content": PNG, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"json": {"keep": "5,5"}},
    ]
    for body in wrong:
        answer = call(make(), "POST", f"/edits/r.1/{action}", **body)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_option"), body
        assert own in answer.json()["message"]
    for body in ({"files": {own: PNG, "mask": b""}}, {"data": {}}):
        # Let in, the request finds no other process here.
        assert call(make(), "POST", f"/edits/r.1/{action}", **body).json()["code"] == "internal", body


def test_base64_may_have_broken_lines() -> None:
    """As `base64`, Ruby and Java write it; a space is a plus sign that got lost, and stays an error."""
    photo = bytes(range(256)) * 3
    unix = base64.encodebytes(photo).decode()
    for text in (unix, unix.replace("\n", "\r\n"), f"data:image/png;base64,\n{unix}"):
        assert read_photo(Upload(), {"image_file_b64": text}) == photo
    for text in (base64.b64encode(b"\xfb\xef\xbe").decode().replace("+", " "), "QUF\u2028B", "QU\xa0FB"):
        with pytest.raises(RemoveBgError, match="not base64"):
            read_photo(Upload(), {"image_file_b64": text})
