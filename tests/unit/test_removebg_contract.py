"""Every documented parameter of remove.bg is honoured, or refused with a code of its own: one table for all."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("httpx")

from cutray.config import RemoverSettings, parse_settings
from cutray.imaging.decode import decode_image, from_array
from cutray.render import encode, render
from serve_apps.remover.errors import RemoveBgError
from serve_apps.remover.removebg_options import PARAMETERS, Wanted, translate_removebg
from tests.alphas import soft_disc
from tests.pictures import photo, saved
from tests.unit.test_serve_api import call, make

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "serving.md"
PICTURE = saved(photo(8, 8), "PNG")
# remove.bg's own names, from its OpenAPI document and its change log.
DOCUMENTED = {
    *("image_file", "image_file_b64", "image_url", "size", "type", "type_level", "format", "channels", "roi", "crop"),
    *("crop_margin", "scale", "position", "bg_color", "bg_image_url", "bg_image_file", "semitransparency"),
    *("add_shadow", "shadow_type", "shadow_opacity", "shadow_method"),
}
PNG = {"format": "png"}
# Parameters → the options that they become, beside PNG as the format.
HONOURED: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {}),
    ({"size": "auto"}, {}),
    ({"size": "full"}, {}),
    ({"size": "4k"}, {}),
    ({"size": "preview"}, {"size": "0.25MP"}),
    ({"size": "small"}, {"size": "0.25MP"}),
    ({"size": "regular"}, {"size": "0.25MP"}),
    ({"size": "medium"}, {"size": "1.5MP"}),
    ({"size": "hd"}, {"size": "4MP"}),
    ({"size": "50MP"}, {"size": "50MP"}),
    ({"type": "auto", "type_level": "latest"}, {}),
    ({"format": "jpg"}, {"format": "jpeg", "background": "255,255,255"}),
    ({"format": "webp"}, {"format": "webp"}),
    ({"format": "zip"}, {}),
    ({"bg_color": "ff0"}, {"format": "jpeg", "background": "255,255,0"}),
    ({"bg_color": "#81d4fa"}, {"format": "jpeg", "background": "129,212,250"}),
    ({"bg_color": "81d4faff", "format": "png"}, {"background": "129,212,250"}),
    ({"bg_color": "f000"}, {}),
    ({"bg_color": "green"}, {"format": "jpeg", "background": "0,128,0"}),
    ({"channels": "alpha"}, {"only_mask": True}),
    ({"channels": "alpha", "format": "jpg", "shadow_type": "drop"}, {"only_mask": True, "format": "jpeg"}),
    ({"roi": "0% 0% 100% 100%"}, {}),
    ({"roi": "10% 20% 90% 100%"}, {"box": "10%,20%,90%,100%"}),
    ({"roi": "10px 20 300px 400px"}, {"box": "10,20,300,400"}),
    ({"crop": "true"}, {"crop": True}),
    ({"crop": "true", "crop_margin": "30px"}, {"crop": True, "margin": "30px"}),
    ({"crop": "1", "crop_margin": "5% 10px 5% 0"}, {"crop": True, "margin": "5% 10px 5% 0"}),
    ({"scale": "original", "position": "original"}, {}),
    ({"scale": "80%"}, {"scale": "80%"}),
    ({"scale": "80%", "position": "original"}, {"scale": "80%", "position": "original"}),
    ({"position": "center"}, {"position": "center"}),
    ({"position": "50% 100%"}, {"position": "50% 100%"}),
    ({"position": "25%"}, {"position": "25%"}),
    ({"semitransparency": "false"}, {"threshold": 0.5}),
    ({"semitransparency": "true"}, {}),
    ({"add_shadow": "true"}, {"shadow": "contact"}),
    ({"shadow_type": "drop", "shadow_opacity": "60"}, {"shadow": "drop", "shadow_strength": 0.6}),
    ({"shadow_type": "3D", "shadow_opacity": "auto"}, {"shadow": "contact"}),
    ({"shadow_type": "car"}, {"shadow": "contact"}),
    ({"shadow_type": "auto"}, {"shadow": "contact"}),
    ({"shadow_type": "none", "add_shadow": "true"}, {}),
    ({"scale": "", "roi": "", "bg_color": ""}, {}),
]
REFUSED = [
    ({"size": "huge"}, "invalid_size"),
    ({"type": "dog"}, "invalid_type"),
    ({"type_level": "3"}, "invalid_type_level"),
    ({"format": "gif"}, "invalid_format"),
    ({"channels": "rgb"}, "invalid_channels"),
    ({"roi": "10% 10% 50%"}, "invalid_roi"),
    ({"roi": "a b c d"}, "invalid_roi"),
    ({"roi": "0% 0% 120% 100%"}, "roi_exceeds_bounds"),
    ({"roi": "50% 0% 50% 100%"}, "roi_region_empty"),
    ({"crop": "maybe"}, "invalid_crop"),
    ({"crop": "true", "crop_margin": "wide"}, "invalid_crop_margin"),
    ({"crop": "true", "crop_margin": "1 2 3"}, "invalid_crop_margin"),
    ({"crop": "true", "crop_margin": "60%"}, "invalid_crop_margin"),
    ({"crop": "true", "crop_margin": "501px"}, "invalid_crop_margin"),
    ({"scale": "5%"}, "invalid_scale"),
    ({"scale": "101%"}, "invalid_scale"),
    ({"position": "left"}, "invalid_position"),
    ({"position": "0% 101%"}, "invalid_position"),
    ({"bg_color": "pupple"}, "invalid_bg_color"),
    ({"bg_color": "#12345"}, "invalid_bg_color"),
    ({"bg_image_url": "http://x"}, "invalid_bg_image_url"),
    ({"semitransparency": "perhaps"}, "invalid_semitransparency"),
    ({"add_shadow": "perhaps"}, "invalid_add_shadow"),
    ({"shadow_type": "round"}, "invalid_shadow_type"),
    ({"shadow_type": "drop", "shadow_opacity": "120"}, "invalid_shadow_opacity"),
]


def test_list_is_complete() -> None:
    """The server knows every documented parameter, the guide names each, and the tables here try each."""
    assert set(PARAMETERS) == DOCUMENTED
    guide = GUIDE.read_text(encoding="utf-8")
    assert not [name for name in DOCUMENTED if f"`{name}`" not in guide]
    tried = {name for fields, _ in (*HONOURED, *REFUSED) for name in fields}
    assert tried >= DOCUMENTED - {"image_file", "image_file_b64", "image_url", "bg_image_file", "shadow_method"}


@pytest.mark.parametrize(("fields", "options"), HONOURED)
def test_honoured(fields: dict[str, str], options: dict[str, Any]) -> None:
    """Each becomes options of ours that are valid, and nothing is noted as ignored."""
    wanted = translate_removebg(fields)
    assert wanted.options == {**PNG, **options}
    assert wanted.notes == []
    parse_settings(RemoverSettings, wanted.options)


@pytest.mark.parametrize(("fields", "code"), REFUSED)
def test_refused(fields: dict[str, str], code: str) -> None:
    """Each is refused with 400 and a code that names the parameter."""
    with pytest.raises(RemoveBgError) as caught:
        translate_removebg(fields)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_what_is_ignored_is_named() -> None:
    """What changes nothing, or is unknown, is told."""
    notes = translate_removebg({"type": "car", "crop_margin": "5%", "shadow_method": "3D", "new": "1"}).notes
    assert [note.split()[0] for note in notes] == ["type", "crop_margin", "shadow_method", "new"]


def test_one_background_at_most() -> None:
    """A colour and a picture together are refused; a picture gives a JPEG."""
    with pytest.raises(RemoveBgError) as caught:
        translate_removebg({"bg_color": "red"}, PICTURE)
    assert caught.value.code == "multiple_bg_sources"
    assert translate_removebg({}, PICTURE).options["format"] == "jpeg"


def _render(wanted: Wanted, format_name: str) -> bytes:
    """Render what was translated, on a drawn subject."""
    settings = parse_settings(RemoverSettings, wanted.options)
    image, backdrop = from_array(photo(60, 80)), None if wanted.backdrop is None else decode_image(wanted.backdrop)
    rendered = render(image, soft_disc(60, 80, 20, 6), settings, clean_edges=True, limits=settings, backdrop=backdrop)
    return encode(rendered, image, settings, format_name)


def test_half_transparent_colour_is_a_half_transparent_background() -> None:
    """Eight digits hold an opacity; the result keeps it, in PNG."""
    wanted = translate_removebg({"bg_color": "ff000080"})
    assert wanted.options["format"] == "png"
    decoded = decode_image(_render(wanted, "PNG"))
    assert decoded.alpha is not None
    assert decoded.alpha[0, 0] == 128 and tuple(decoded.pixels[0, 0]) == (255, 0, 0)


def test_zip_holds_colours_and_alpha() -> None:
    """`color.jpg` under `alpha.png` is the cutout; colours go on where nobody sees them, so no edge is dark."""
    wanted = translate_removebg({"format": "zip"})
    assert wanted.as_zip
    with zipfile.ZipFile(io.BytesIO(_render(wanted, "ZIP"))) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        colors, alpha = (decode_image(archive.read(name)).pixels for name in archive.namelist())
    cutout = decode_image(_render(wanted, "PNG"))
    assert cutout.alpha is not None
    assert np.array_equal(alpha[..., 0], cutout.alpha)
    seen = cutout.alpha > 128
    assert np.abs(colors[seen].astype(int) - cutout.pixels[seen]).mean() < 6
    assert colors[~seen].mean() > 0.5 * cutout.pixels[seen].mean()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"data": {}}, "missing_source"),
        ({"json": {}}, "missing_source"),
        ({"content": b"[1]", "headers": {"content-type": "application/json"}}, "missing_source"),
        ({"data": {"image_url": "http://x"}}, "invalid_image_url"),
        ({"json": {"image_file_b64": "A" * 3, "image_url": "http://x"}}, "multiple_sources"),
        ({"json": {"image_file_b64": "%%%"}}, "failed_to_read_image"),
        ({"files": {"image_file": PICTURE}, "data": {"scale": "5%"}}, "invalid_scale"),
        ({"json": {"image_file_b64": base64.b64encode(PICTURE).decode(), "crop": "maybe"}}, "invalid_crop"),
        ({"json": {"image_file_b64": base64.encodebytes(PICTURE * 9).decode(), "crop": "maybe"}}, "invalid_crop"),
        ({"data": {"image_file_b64": base64.b64encode(PICTURE).decode(), "roi": "1"}}, "invalid_roi"),
    ],
)
def test_bodies(request_: dict[str, Any], code: str) -> None:
    """Forms, urlencoded fields and JSON are read alike, and refused in remove.bg's shape before anybody is asked."""
    answer = call(make(), "POST", "/v1.0/removebg", **request_)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["code"] == code


def test_too_large_body_has_removebgs_shape() -> None:
    """A body above the limit is told as clients of remove.bg know it."""
    answer = call(make(limits={"max_body_bytes": 2000}), "POST", "/v1.0/removebg", content=b"x" * 4000)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "file_too_large")


def test_account_and_limits() -> None:
    """The account counts nothing; a limited key learns what it has left; an unknown one gets 403 in their shape."""
    keys = {"shop": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}  # SHA-256 of "secret"
    service = make(api_keys=keys, limits={"requests_per_minute": 5})
    answer = call(service, "GET", "/v1.0/account", headers={"X-API-Key": "secret"})
    assert answer.json()["data"]["attributes"]["api"]["sizes"] == "all"
    assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("5", "4")
    assert int(answer.headers["x-ratelimit-reset"]) > 1_600_000_000
    refused = call(service, "GET", "/v1.0/account")
    assert (refused.status_code, list(json.loads(refused.text))) == (403, ["errors"])
