"""The requests of docs/guides/serving.md and jobs.md, as they stand there, to a real endpoint."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutray.imaging.decode import decode_image
from tests.conftest import require_weights
from tests.pages import ROOT, blocks, run_block

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from serve_apps.jobs.webhooks import signed_headers  # noqa: E402
from tests.endpoint import running, write_config  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
PAGE = ROOT / "docs" / "guides" / "serving.md"
KEY = "open sesame"


def send(group: str, url: str, folder: Path, photos: Path) -> None:
    """Run the blocks of a group as a reader would, against an endpoint at another port."""
    for name, source in (("photo", "astronaut"), ("beach", "coffee"), ("a", "chelsea"), ("b", "coffee")):
        shutil.copy(photos / f"{source}.jpg", folder / f"{name}.jpg")
    found = blocks("sh", group=group)
    assert found
    for block in found:
        # Left to itself, curl calls an answer that is an error a success.
        text = 'curl() { command curl -sS --fail-with-body "$@"; }\n' + block.text.replace("localhost:8000", url)
        run_block(replace(block, text=text), folder, KEY=KEY)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the endpoint without keys, with a folder for jobs."""
    require_weights("u2netp")
    folder = tmp_path_factory.mktemp("open")
    options = ("-m", "u2netp", "--offline", "--jobs", str(folder / "jobs"))
    with running(write_config(folder / "serve.yaml"), *options) as (at, _):
        yield at


def test_requests_do_what_the_page_says(url: str, tmp_path: Path, photo_files: Path) -> None:
    """Each command succeeds, and leaves the kind of file that its name says."""
    send("serving", url, tmp_path, photo_files)
    for name in ("cutout.png", "cutout.webp", "beach.png", "removebg.jpg", "mask.png"):
        assert decode_image((tmp_path / name).read_bytes()).pixels.size, name
    assert decode_image((tmp_path / "cutout.png").read_bytes()).alpha is not None
    assert zipfile.ZipFile(tmp_path / "cutouts.zip").namelist() == ["a.png", "b.png", "results.json"]
    assert "ray_cutray_requests_total" in (tmp_path / "metrics.txt").read_text()


def test_addresses_and_headers_are_those_of_the_page(url: str, photo_files: Path) -> None:
    """Every address of the table is there, and a result has every header that the page names without condition."""
    text = PAGE.read_text()
    table = re.findall(r"^\| `(GET|POST) (\S+)` \|", text, flags=re.MULTILINE)
    assert len(table) >= 8
    for method, path in table:
        assert httpx.request(method, url + path, timeout=60).status_code not in (404, 405), path
        allowed = httpx.request("OPTIONS", url + path, timeout=60).headers["allow"].split(", ")
        assert method in allowed
        assert ("HEAD" in allowed) == ("GET" in allowed)
    photo = (photo_files / "astronaut.jpg").read_bytes()
    answer = httpx.post(f"{url}/remove-background", files={"image": photo}, timeout=300)
    named = set(re.findall(r"`((?:X-|Server-)[A-Za-z-]+)`", text))
    of_some_answers = {"X-Notes", "X-Edge-Cases", "X-Error-Code", "X-API-Key"}
    of_some_answers |= {"X-Type", "X-Credits-Charged", "X-RateLimit-Limit"}  # of /v1.0/removebg
    of_some_answers |= {"X-Report", "X-Revision"}  # of edits
    assert {name for name in named if name not in answer.headers} <= of_some_answers


def test_jobs_do_what_their_page_says(url: str, tmp_path: Path, photo_files: Path) -> None:
    """Each command succeeds; the results are those of the two photos, and the sample takes a genuine webhook alone."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(photo_files / "rocket.jpg", "rocket.jpg")
    send("jobs", url, tmp_path, photo_files)
    assert zipfile.ZipFile(tmp_path / "results.zip").namelist() == ["a.webp", "b.webp", "results.json"]
    assert decode_image((tmp_path / "a.webp").read_bytes()).alpha is not None
    (block,) = blocks("python", group="jobs")
    names: dict[str, Any] = {}
    exec(block.text, names)  # the page's own code
    secret = httpx.get(f"{url}/jobs/webhook-secret", timeout=60).json()["secret"]
    headers = signed_headers(secret, "evt_1", b"{}", int(time.time()))
    assert names["verify"](secret, headers, b"{}")
    assert not names["verify"](secret, headers, b"{ }")
    assert not names["verify"](secret, signed_headers(secret, "evt_1", b"{}", int(time.time()) - 301), b"{}")


def test_keys_origins_and_rates_are_set_as_the_page_says(tmp_path: Path, photo_files: Path) -> None:
    """The page's YAML, with the hash of the key at hand, lets its requests in, others not, and counts them."""
    require_weights("u2netp")
    (block,) = blocks("yaml", group="serving with keys")
    args = yaml.safe_load(block.text)["args"]
    args["api_keys"] = {name: hashlib.sha256(KEY.encode()).hexdigest() for name in args["api_keys"]}
    (origin,) = args["cors_origins"]
    with running(write_config(tmp_path / "serve.yaml", **args), "-m", "u2netp", "--offline") as (url, _):
        send("serving with keys", url, tmp_path, photo_files)
        assert decode_image((tmp_path / "cutout.png").read_bytes()).alpha is not None
        assert httpx.get(f"{url}/model-info", timeout=60).status_code == 401
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        large = httpx.post(f"{url}/remove-background", content=bytes(33 << 20), headers={"Origin": origin}, timeout=60)
        assert large.status_code == 413
        assert "32 MiB" in large.json()["message"]
        assert large.headers["access-control-allow-origin"] == origin
        wrong = httpx.get(f"{url}/model-info", headers={"Origin": origin}, timeout=60)
        assert "X-Error-Code" in wrong.headers["access-control-expose-headers"]
        most = args["limits"]["requests_per_minute"]
        with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as client:
            # A minute may end while they are sent, so that twice as many are needed to be sure.
            statuses = [client.get("/model-info").status_code for _ in range(2 * most)]
        assert 429 in statuses
