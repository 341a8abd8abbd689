"""The real endpoint over real HTTP: same pixels as the library, limits, errors, and no lost request."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from cutray.imaging.decode import decode_image
from cutray.remover import BackgroundRemover
from tests.conftest import ENGINE, require_weights
from tests.hostile import BOMBS, impostors

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from tests.endpoint import PATIENCE_S, Load, replicas, running, write_config  # noqa: E402

Endpoint = tuple[Any, Any, Path]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Run the endpoint with the small model, two of each, little room, and one API-free client."""
    require_weights("u2netp")
    config = write_config(
        tmp_path_factory.mktemp("serve") / "serve.yaml",
        engine={"engine": ENGINE},
        limits={"max_in_flight": 12, "max_body_bytes": 8 << 20, "max_megapixels": 30, "deadline_s": 55},
        deployments={"Segmenter": {"num_replicas": 2, "user_config": {"model": "u2netp"}}},
    )
    with running(config, "--offline") as (url, process), httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        yield client, process, config


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> Any:
    """Return an HTTP client of the endpoint."""
    return endpoint[0]


@pytest.fixture(scope="module")
def jpeg(photo_files: Path) -> bytes:
    """Return one photo as JPEG."""
    return (photo_files / "astronaut.jpg").read_bytes()


def pixels(data: bytes) -> np.ndarray:
    """Decode a result to (H, W, 4) or (H, W, 3)."""
    image = decode_image(data)
    return image.pixels if image.alpha is None else np.dstack([image.pixels, image.alpha])


def test_pixels_equal_the_librarys(client: Any, jpeg: bytes, remover: BackgroundRemover) -> None:
    """A form and a raw body give exactly what the library gives with the same options."""
    expected = remover.remove_background(jpeg)
    answer = client.post("/remove-background", files={"image": jpeg})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-subject-found"] == "true"
    assert float(answer.headers["x-confidence"]) == expected.report.confidence
    assert np.array_equal(pixels(answer.content), pixels(expected.data))
    cropped = client.post("/remove-background?crop=true&background=white&format=webp", content=jpeg)
    wanted = remover.remove_background(jpeg, crop=True, background="white", format="webp")
    assert cropped.content == wanted.data
    for quality in ("fast", "best"):
        answer = client.post("/remove-background", files={"image": jpeg}, data={"quality": quality})
        assert answer.content == remover.remove_background(jpeg, quality=quality).data


def test_background_picture_is_laid_behind(client: Any, photo_files: Path, remover: BackgroundRemover) -> None:
    """A picture that comes along as a file gives what the library makes of a path."""
    jpeg, behind = (photo_files / "astronaut.jpg").read_bytes(), photo_files / "coffee.jpg"
    answer = client.post("/remove-background", files={"image": jpeg, "background_image": behind.read_bytes()})
    assert np.array_equal(pixels(answer.content), pixels(remover.remove_background(jpeg, background=str(behind)).data))


def test_state_is_told(client: Any) -> None:
    """Health, readiness, the model's name and hash, the documentation and the metrics are there."""
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready", "model": "u2netp", "swap_error": None}
    info = client.get("/model-info").json()
    assert info["sha256"] == "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
    assert info["engine_reason"]
    assert "/remove-background" in client.get("/openapi.json").json()["paths"]
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("HTTP", "")


def test_errors_have_one_shape(client: Any, jpeg: bytes) -> None:
    """Each kind of refusal has its status, a stable code and the request's id, and names no path."""
    cases = [
        (client.post("/remove-background", files={"image": b"hello"}), 415, "unsupported_format"),
        (client.post("/remove-background", files={"image": jpeg[:2000]}), 422, "not_decodable"),
        (client.post("/remove-background"), 400, "missing_image"),
        (client.post("/remove-background", files={"image": jpeg}, data={"x": "1"}), 400, "bad_option"),
        (
            client.post("/remove-background", files={"image": jpeg}, data={"background": "/etc/hosts"}),
            400,
            "bad_option",
        ),
        (client.post("/remove-background", files={"image": jpeg}, data={"format": "jpeg"}), 400, "bad_option"),
        (client.post("/remove-background", files=[("image", jpeg)] * 2), 400, "too_many_images"),
        (client.post("/remove-background", content=jpeg, headers={"content-encoding": "gzip"}), 415, None),
        (client.post("/batch-remove-background", files=[("images", jpeg)] * 11), 400, "too_many_images"),
        (client.get("/remove-background"), 405, "method_not_allowed"),
        (client.get("/nothing"), 404, "not_found"),
        (client.get("/../../etc/passwd"), 404, "not_found"),
        (client.get("/api/remove?url=http://127.0.0.1/"), 400, "url_not_fetched"),
    ]
    for answer, status, code in cases:
        assert answer.status_code == status, answer.text
        body = answer.json()
        assert set(body) == {"code", "message", "request_id"}
        assert body["code"] == (code or body["code"])
        assert body["request_id"] == answer.headers["x-request-id"]
        assert "Traceback" not in body["message"]
        assert "site-packages" not in body["message"]


def test_a_raw_photo_is_taken_whatever_it_is_called(client: Any, jpeg: bytes) -> None:
    """`curl --data-binary` calls every body urlencoded; a body that is a form all the same stays one."""
    answers = [
        client.post("/remove-background?only_mask=true", content=jpeg, headers={"content-type": kind})
        for kind in ("application/x-www-form-urlencoded", "image/jpeg", "application/octet-stream")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.content for answer in answers}) == 1
    form = client.post("/remove-background", data={"only_mask": "true"})
    assert (form.status_code, form.json()["code"]) == (400, "missing_image")


def test_endless_body_is_cut_off(client: Any, endpoint: Endpoint) -> None:
    """A chunked body far over the limit gets 413, and the processes do not grow by it."""
    tree = [endpoint[1], *psutil.Process(endpoint[1].pid).children(recursive=True)]
    before = sum(psutil.Process(process.pid).memory_info().rss for process in tree)
    chunks = (bytes(1 << 20) for _ in range(500))
    headers = {"content-type": "application/octet-stream"}
    try:
        answer = client.post("/remove-background", content=chunks, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    except httpx.WriteError:
        pass  # the server may close before this client is done with writing
    after = sum(psutil.Process(process.pid).memory_info().rss for process in tree if psutil.pid_exists(process.pid))
    assert after - before < 100 << 20
    assert client.get("/health").status_code == 200


def test_hostile_files_are_refused_and_nothing_breaks(client: Any) -> None:
    """No bomb and no impostor causes a 5xx, and the endpoint is in good health afterwards."""
    files = {**{name: make() for name, make in BOMBS.items()}, **impostors()}
    waits = []
    for name, data in files.items():
        answer = client.post("/remove-background", files={"image": data})
        assert answer.status_code in range(200, 500), f"{name}: {answer.status_code} {answer.text[:200]}"
        started = time.perf_counter()
        assert client.get("/health").status_code == 200
        waits.append(time.perf_counter() - started)
    assert sorted(waits)[len(waits) // 2] < 10
    assert max(waits) < 60


def test_batch_keeps_order_and_errors_apart(client: Any, photo_files: Path) -> None:
    """Of three photos the middle one is bad: two results and one error, in their places, as zip and as parts."""
    good = [(photo_files / name).read_bytes() for name in ("astronaut.jpg", "chelsea.jpg")]
    sent = [("beach day.jpg", good[0]), ("notes.jpg", b"no picture"), ("../Beach Day.PNG", good[1])]
    files = [("images", file) for file in sent]
    answer = client.post("/batch-remove-background", files=files)
    assert answer.headers["x-failed"] == "1"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.namelist() == ["beach day.png", "Beach Day-2.png", "results.json"]
    rows = json.loads(archive.read("results.json"))
    assert [row["status"] for row in rows] == [200, 415, 200]
    assert [row["name"] for row in rows] == ["beach day.jpg", "notes.jpg", "Beach Day.PNG"]
    alone = client.post("/remove-background", files={"image": good[1]})
    assert archive.read("Beach Day-2.png") == alone.content
    parts = client.post("/batch-remove-background", files=files, headers={"accept": "multipart/mixed"})
    boundary = parts.headers["content-type"].split("boundary=")[1].encode()
    assert parts.content.count(b"--" + boundary + b"\r\n") == 3
    assert b'filename="Beach Day-2.png"' in parts.content
    assert parts.content.index(b"unsupported_format") < parts.content.index(alone.content[:200])


def test_broken_background_is_told_once(client: Any, jpeg: bytes) -> None:
    """A background picture that cannot be read is an error of the request, also of a batch, and is named."""
    for path, field in (("/remove-background", "image"), ("/batch-remove-background", "images")):
        files = [(field, jpeg), ("background_image", b"no picture")]
        answer = client.post(path, files=files)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
        assert answer.json()["message"].startswith("background_image: ")
    answer = client.post("/v1.0/removebg", files={"image_file": jpeg, "bg_image_file": b"no picture"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "invalid_file_type")


def test_clients_of_removebg_only_change_the_host(client: Any, jpeg: bytes) -> None:
    """remove.bg's parameters, headers, JSON and errors."""
    answer = client.post(
        "/v1.0/removebg", files={"image_file": jpeg}, data={"size": "auto", "crop": "true", "bg_color": "#ff0000"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    assert int(answer.headers["x-foreground-width"]) == decode_image(answer.content).pixels.shape[1]
    encoded = client.post("/v1.0/removebg", files={"image_file": jpeg}, headers={"accept": "application/json"})
    assert set(encoded.json()["data"]) >= {"result_b64", "foreground_top"}
    zipped = client.post("/v1.0/removebg", files={"image_file": jpeg}, data={"size": "preview", "format": "zip"})
    alpha = decode_image(zipfile.ZipFile(io.BytesIO(zipped.content)).read("alpha.png")).pixels
    assert alpha.shape[:2] == (int(zipped.headers["x-height"]), int(zipped.headers["x-width"])) == (500, 500)
    for fields, code in (
        ({"image_url": "http://127.0.0.1/"}, "invalid_image_url"),
        ({}, "missing_source"),
        ({"image_file_b64": "aGVsbG8="}, "invalid_file_type"),
        ({"roi": "0px 0px 100px 9000px"}, "roi_exceeds_bounds"),
        ({"roi": "400px 0% 10% 100%"}, "roi_region_empty"),
    ):
        refused = client.post("/v1.0/removebg", data=fields, files={"image_file": jpeg} if "roi" in fields else None)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["code"] == code


def test_clients_of_rembg_only_change_the_host(client: Any, jpeg: bytes) -> None:
    """Rembg's form, with its mask and its background colour."""
    mask = client.post("/api/remove", files={"file": jpeg}, data={"om": "true"})
    assert decode_image(mask.content).pixels.shape[:2] == (512, 512)
    assert "x-notes" not in mask.headers
    told = client.post("/api/remove?model=u2net&a=true", files={"file": jpeg}, data={"extras": '{"x": 1}'})
    assert "model was ignored: u2netp is served" in told.headers["x-notes"]
    assert "extras was ignored: x" in told.headers["x-notes"]
    red = client.post("/api/remove?bgc=255,0,0,255", files={"file": jpeg})
    assert tuple(pixels(red.content)[2, 2]) == (255, 0, 0)


def test_overload_is_refused_at_once(client: Any, photo_files: Path) -> None:
    """Far more requests than there is room: each gets a result or a quick 429 with Retry-After; then all is well."""
    jpeg = (photo_files / "chelsea.jpg").read_bytes()
    url = client.base_url

    def one(_: int) -> tuple[int, str | None]:
        with httpx.Client(base_url=url, timeout=120) as own:
            answer = own.post("/remove-background", files={"image": jpeg})
            return answer.status_code, answer.headers.get("retry-after")

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(one, range(80)))
    assert {status for status, _ in answers} == {200, 429}
    assert all(after for status, after in answers if status == 429)
    assert client.post("/remove-background", files={"image": jpeg}).status_code == 200


@pytest.mark.parametrize("name", ["Segmenter", "Cutter"])
def test_killed_replica_costs_no_request(endpoint: Endpoint, jpeg: bytes, name: str) -> None:
    """One of two replicas is killed under load: every request still gets its result."""
    client, process, _ = endpoint
    victims = replicas(process, name)
    assert victims
    with Load(client, jpeg) as load:
        time.sleep(1)
        os.kill(victims[0], signal.SIGKILL)
        time.sleep(6)
        load.wait_for(lambda answers: len(answers) >= 4)
    assert [answer for answer in load.answers if answer[0] != 200] == []


def test_model_is_swapped_without_a_lost_request(endpoint: Endpoint, jpeg: bytes, tmp_path: Path) -> None:
    """A broken model leaves the old one at work and shows in /ready; a good one takes over under load."""
    client, process, config = endpoint
    plan = yaml.safe_load(config.read_text())
    onnx = pytest.importorskip("onnx", reason="another network is made from the small one")
    network = next(entry for entry in plan["applications"][0]["deployments"] if entry["name"] == "Segmenter")

    def switch(model: str) -> None:
        network["user_config"] = {"model": model}
        config.write_text(yaml.safe_dump(plan))
        process.send_signal(signal.SIGHUP)

    def wait_for(field: str, value: object) -> None:
        until = time.monotonic() + PATIENCE_S
        while client.get("/ready").json().get(field) != value:
            assert time.monotonic() < until, client.get("/ready").text
            time.sleep(0.3)

    own = tmp_path / "mine.onnx"
    network_file = onnx.load(require_weights("u2netp"))
    network_file.producer_name = "a training of our own"
    onnx.save(network_file, own)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with Load(client, jpeg) as load:
        switch(str(broken))
        wait_for("swap_error", "engine_failed")
        assert client.get("/ready").json()["status"] == "ready"
        switch(str(own))
        wait_for("model", "mine")
        load.wait_for(lambda answers: any(model == "mine" for _, model in answers))
    answers = load.answers
    assert {status for status, _ in answers} == {200}
    assert {model for _, model in answers} == {"u2netp", "mine"}


def test_what_is_counted_can_be_scraped(client: Any) -> None:
    """Requests, stages, batches, refusals and the model are in /metrics under their names."""
    wanted = (
        "cutray_requests_total",
        "cutray_rejected_total",
        "cutray_request_ms_bucket",
        "cutray_stage_ms_bucket",
        "cutray_batch_size_bucket",
        "cutray_model_info",
        "cutray_in_flight",
    )
    until = time.monotonic() + PATIENCE_S
    while missing := [name for name in wanted if f"ray_{name}" not in client.get("/metrics").text]:
        assert time.monotonic() < until, missing
        time.sleep(1)


def test_end_lets_photos_finish(endpoint: Endpoint, jpeg: bytes) -> None:
    """SIGTERM while photos are under way: they get their results, and the process ends well."""
    client, process, _ = endpoint
    sent = threading.Semaphore(0)

    def body() -> Iterator[bytes]:
        yield jpeg
        sent.release()

    def post(_: int) -> Any:
        return httpx.post(f"{client.base_url}/remove-background", content=body(), timeout=PATIENCE_S)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(post, number) for number in range(6)]
        for _ in answers:
            assert sent.acquire(timeout=PATIENCE_S)
        time.sleep(0.15)
        process.send_signal(signal.SIGTERM)
        done = [answer.result() for answer in answers]
    assert {answer.status_code for answer in done} <= {200, 503}
    assert any(answer.status_code == 200 for answer in done)
    assert process.wait(PATIENCE_S) == 0
