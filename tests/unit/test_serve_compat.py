"""What clients of remove.bg and rembg send: translated, refused before any work, or named as ignored."""

from __future__ import annotations

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("httpx")

from serve_apps.remover.errors import ApiError
from serve_apps.remover.rembg_request import note_model, pick_photo, translate_rembg
from serve_apps.remover.uploads import Upload, UploadedFile
from tests.unit.test_serve_api import call, make


def test_rembg_fields_are_translated() -> None:
    """Mask, hard mask and background mean what they mean there."""
    assert translate_rembg({"om": "true", "ppm": "1"}) == ({"only_mask": True, "threshold": 0.5}, [])
    assert translate_rembg({"bgc": "255, 0,0,255"}) == ({"background": "255,0,0"}, [])
    assert translate_rembg({"bgc": "255,0,0,0", "om": "False", "a": ""}) == ({}, [])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"extras": '{"sam_prompt": [], "model_path": "x"}'}, "sam_prompt, model_path"),
        ({"extras": "{nonsense"}, "no JSON"),
        ({"extras": "[1]"}, "no JSON object"),
        ({"a": "true"}, "a was ignored"),
        ({"af": "240"}, "af was ignored"),
        ({"bgc": "1,2,3,128"}, "opaque"),
        ({"shadow": "1"}, "shadow was ignored"),
    ],
)
def test_what_rembg_has_beyond_is_named(fields: dict[str, str], word: str) -> None:
    """Nothing is ignored without a word."""
    _, notes = translate_rembg(fields)
    assert len(notes) == 1
    assert word in notes[0]


def test_files_beside_the_photo_of_rembg_are_named() -> None:
    """A second photo has no place in a request; its client learns so."""
    photo, mask = UploadedFile("file", b"a"), UploadedFile("mask", b"b")
    assert pick_photo(Upload([photo])) == (b"a", [])
    assert pick_photo(Upload([UploadedFile("", b"raw")])) == (b"raw", [])
    for other in (photo, mask):
        data, notes = pick_photo(Upload([photo, other]))
        assert (data, len(notes)) == (b"a", 1)
    with pytest.raises(ApiError, match="'file'"):
        pick_photo(Upload([mask]))


def test_another_model_is_named() -> None:
    """A request for the model that is served gets no note."""
    assert note_model({"model": "isnet-anime"}, "u2netp") == ["model was ignored: u2netp is served"]
    assert note_model({"model": "u2netp"}, "u2netp") == note_model({}, "u2netp") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"om": "maybe"},
        {"a": "2"},
        {"af": "many"},
        {"bgc": "white"},
        {"bgc": "300,0,0,255"},
        {"bgc": "1,2"},
        {"bgc": "1,2,3,4,5"},
    ],
)
def test_wrong_values_of_rembg_are_refused(fields: dict[str, str]) -> None:
    """A wrong value is told with the name of its field."""
    (name,) = fields
    with pytest.raises(ApiError, match=f"^{name} = ") as caught:
        translate_rembg(fields)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("path", "files", "data"),
    [
        ("/remove-background", "image", {"background": "pupple"}),
        ("/remove-background", "image", {"format": "jpeg"}),
        ("/batch-remove-background", "images", {"background": "pupple"}),
        ("/batch-remove-background", "images", {"format": "jpeg"}),
        ("/api/remove", "file", {"bgc": "white"}),
        ("/v1.0/removebg", "image_file", {"bg_color": "pupple"}),
        ("/v1.0/removebg", "image_file", {"channels": "rgb"}),
    ],
)
def test_wrong_options_are_answered_before_any_photo(path: str, files: str, data: dict[str, str]) -> None:
    """An endpoint whose other processes are not there still answers with 400: nobody else is asked."""
    answer = call(make(), "POST", path, files={files: b"\xff\xd8\xff"}, data=data)
    assert answer.status_code == 400, answer.text


def test_twenty_photos_are_too_many() -> None:
    """Far more photos than a batch may have get the same code as one too many."""
    for count in (11, 30):
        answer = call(make(), "POST", "/batch-remove-background", files=[("images", b"x")] * count)
        assert (answer.status_code, answer.json()["code"]) == (400, "too_many_images")
        assert "10" in answer.json()["message"]


def test_large_photo_in_base64_fits_into_a_form() -> None:
    """A field of more than 64 KiB is taken where it may hold a photo; elsewhere its limit is named."""
    field = {"image_file_b64": "QUFB" * 50_000}
    refused = call(make(), "POST", "/v1.0/removebg", data={**field, "crop": "maybe"}, files={"x": b""})
    assert refused.json()["errors"][0]["code"] == "invalid_crop"
    refused = call(make(), "POST", "/remove-background", data={"format": "x" * 70_000}, files={"image": b"x"})
    assert "65536 bytes" in refused.json()["message"]
