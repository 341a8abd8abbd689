"""Editing a photo over real HTTP: strokes, masks, results, limits, and what happens when the process is lost."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.imaging.decode import decode_image
from cutray.remover import BackgroundRemover
from tests.conftest import ENGINE, require_weights

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from tests.endpoint import PATIENCE_S, replicas, running, write_config  # noqa: E402

Endpoint = tuple[Any, Any]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Run the endpoint with the small model, two Cutters, two keys, and room for two edits of a key."""
    require_weights("u2netp")
    config = write_config(
        tmp_path_factory.mktemp("serve") / "serve.yaml",
        api_keys={name: hashlib.sha256(name.encode()).hexdigest() for name in ("shop", "other")},
        engine={"engine": ENGINE},
        limits={"deadline_s": 55, "max_edits_per_key": 2},
        deployments={"Segmenter": {"num_replicas": 1, "user_config": {"model": "u2netp"}}},
    )
    headers = {"X-API-Key": "shop"}
    with (
        running(config, "--offline") as (url, process),
        httpx.Client(base_url=url, timeout=PATIENCE_S, headers=headers) as client,
    ):
        yield client, process


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> Any:
    """Return an HTTP client of the endpoint."""
    return endpoint[0]


@pytest.fixture(scope="module")
def jpeg(photo_files: Path) -> bytes:
    """Return one photo as JPEG."""
    return (photo_files / "astronaut.jpg").read_bytes()


def begin(client: Any, jpeg: bytes, **fields: str) -> dict[str, Any]:
    """Begin an edit; returns what the endpoint says of it."""
    answer = client.post("/edits", files={"file": jpeg}, data=fields)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/edits/{found['id']}"
    return found


def alpha_of(client: Any, edit_id: str) -> np.ndarray:
    """Fetch the whole alpha channel."""
    answer = client.get(f"/edits/{edit_id}/alpha")
    assert answer.status_code == 200, answer.text
    return decode_image(answer.content).pixels[..., 0]


def patch(alpha: np.ndarray, answer: Any) -> np.ndarray:
    """Put the changed part into an alpha channel, as the page does."""
    assert answer.status_code == 200, answer.text
    left, top, right, bottom = map(int, answer.headers["x-box"].split(","))
    patched = alpha.copy()
    patched[top:bottom, left:right] = decode_image(answer.content).pixels[..., 0]
    return patched


def test_strokes_change_the_mask_and_are_undone(client: Any, jpeg: bytes, remover: BackgroundRemover) -> None:
    """Marks hold to the pixel, the answer is the changed part alone, and no marks give the first mask again."""
    edit = begin(client, jpeg, quality="fast")
    address = f"/edits/{edit['id']}"
    before = alpha_of(client, edit["id"])
    assert before.shape == (edit["height"], edit["width"])
    plain = remover.remove_background(jpeg, quality="fast")
    assert np.array_equal(before, plain.mask)
    strokes = np.zeros((*before.shape, 4), np.uint8)
    strokes[5:25, 5:60] = (0, 255, 0, 255)
    strokes[before.shape[0] // 2 - 9 :, before.shape[1] // 2 - 9 : before.shape[1] // 2 + 9] = (255, 0, 0, 255)
    drawn = io.BytesIO()
    Image.fromarray(strokes).save(drawn, "PNG")
    answer = client.post(f"{address}/strokes", files={"strokes": drawn.getvalue()}, data={"revision": "0"})
    after = patch(before, answer)
    assert (after[5:25, 5:60] == 255).all()
    assert not after[strokes[..., 0] > 0].any()
    assert np.array_equal(after, alpha_of(client, edit["id"]))
    assert answer.headers["x-revision"] == "1"
    assert json.loads(answer.headers["x-report"])["objects"]
    stale = client.post(f"{address}/strokes", data={"keep": "1,1", "revision": "0"})
    assert (stale.status_code, stale.json()["code"]) == (409, "edit_changed")
    result = client.post(f"{address}/result", data={"background": "white", "format": "webp", "crop": "true"})
    assert result.headers["content-type"] == "image/webp"
    undone = client.post(f"{address}/strokes", data={})
    assert np.array_equal(patch(after, undone), before)
    assert client.post(f"{address}/strokes", data={}).status_code == 204
    cutout = client.post(f"{address}/result", data={})
    assert np.array_equal(decode_image(cutout.content).pixels, decode_image(plain.data).pixels)


def test_a_box_is_looked_at_anew(client: Any, jpeg: bytes, remover: BackgroundRemover) -> None:
    """A box among the hints gives what the library gives with the same box."""
    edit = begin(client, jpeg, quality="fast")
    before = alpha_of(client, edit["id"])
    answer = client.post(f"/edits/{edit['id']}/strokes", data={"box": "20%,0%,70%,60%"})
    wanted = remover.remove_background(jpeg, quality="fast", box="20%,0%,70%,60%").mask
    assert np.array_equal(patch(before, answer), wanted)
    small = client.get(f"/edits/{edit['id']}/alpha", params={"max_side": 100})
    assert max(decode_image(small.content).pixels.shape) == 100


def test_what_is_not_allowed_is_refused(client: Any, jpeg: bytes) -> None:
    """Each mistake has its status and code, and says what is allowed."""
    edit = begin(client, jpeg, quality="fast")
    address = f"/edits/{edit['id']}"
    holder = edit["id"].partition(".")[0]
    foreign = {"X-API-Key": "other"}
    cases = [
        (client.post(f"{address}/strokes", data={"box": "0,0,9999,5"}), 400, "bad_option"),
        (client.post(f"{address}/strokes", data={"keep": "5,5", "drop": "5,5"}), 400, "bad_option"),
        (client.post(f"{address}/strokes", data={"background": "white"}), 400, "bad_option"),
        (client.post(f"{address}/strokes", data={"strokes": "/etc/hosts"}), 400, "bad_option"),
        (client.post(f"{address}/strokes", files={"strokes": b"no picture"}), 415, "unsupported_format"),
        (client.post(f"{address}/result", data={"keep": "5,5"}), 400, "bad_option"),
        (client.get(f"{address}/alpha", params={"max_side": "0"}), 400, "bad_option"),
        (client.get(f"{address}/alpha", headers=foreign), 410, "edit_gone"),
        (client.delete(address, headers=foreign), 410, "edit_gone"),
        (client.get(f"/edits/{holder}.AAAA/alpha"), 410, "edit_gone"),
        (client.get("/edits/nothing/alpha"), 410, "edit_gone"),
        (client.post("/edits", data={}), 400, "missing_image"),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert client.delete(address).status_code == 204
    assert client.get(f"{address}/alpha").status_code == 410


def test_a_lost_process_says_so(endpoint: Endpoint, jpeg: bytes) -> None:
    """When the Cutter that holds an edit dies, the edit answers 410, and a new one can be begun."""
    client, process = endpoint
    edit = begin(client, jpeg, quality="fast")
    for pid in replicas(process, "Cutter"):
        os.kill(pid, signal.SIGKILL)
    answer = client.post(f"/edits/{edit['id']}/strokes", data={"keep": "5,5"})
    while answer.status_code == 503:  # no Cutter runs yet
        answer = client.post(f"/edits/{edit['id']}/strokes", data={"keep": "5,5"})
    assert (answer.status_code, answer.json()["code"]) == (410, "edit_gone")
    assert "POST /edits" in answer.json()["message"]
    assert alpha_of(client, begin(client, jpeg, quality="fast")["id"]).any()
