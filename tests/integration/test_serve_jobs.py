"""Jobs on a real endpoint: uploads, ZIPs, addresses, options, cancelling, repeated requests, webhooks, strangers."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from cutray.imaging.decode import decode_image
from cutray.models.weights import resolve
from cutray.remover import BackgroundRemover
from tests.batches import served_bucket
from tests.conftest import ENGINE, require_weights
from tests.hostile_requests import forged_calls, hostile_requests, send_raw, traversals
from tests.job_receiver import Receiver, receiving

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from tests.endpoint import PATIENCE_S, Process, replicas, running, write_config  # noqa: E402

KEYS = {"shop": "open sesame", "other": "swordfish"}
HASHES = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
MODELS = ("u2netp", "u2netp-distilled")
ENDED = ("finished", "failed", "cancelled")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run a receiver of webhooks, which is also a source of photos."""
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """Serve a bucket ``shop``, which the environment leads to; yields its file system."""
    with pytest.MonkeyPatch.context() as environment, served_bucket(environment) as (store, uri):
        (place,) = parse_qs(urlsplit(uri("")).query)["endpoint_override"]
        environment.setenv("AWS_ENDPOINT_URL", f"http://{place}")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield store


@pytest.fixture(scope="module")
def endpoint(
    receiver: Receiver, bucket: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Process]]:
    """Run the endpoint with two keys, two models and a folder for jobs; it knows the bucket by its environment."""
    require_weights("u2netp")
    folder = tmp_path_factory.mktemp("jobs")
    jobs = {
        "folder": str(folder / "state"),
        "max_photos": 40,
        "jobs_per_key": 6,
        "webhooks": [f"{receiver.url}/hooks/"],
        "sources": [f"{receiver.url}/photos/", "s3://shop/photos/"],
        "targets": ["s3://shop/cutouts/"],
        "private_addresses": True,
    }
    config = write_config(
        folder / "serve.yaml",
        api_keys=HASHES,
        jobs=jobs,
        engine={"engine": ENGINE},
        models=list(MODELS),
        deployments={"Segmenter": {"num_replicas": 1, "user_config": {}}},
    )
    with running(config, "--offline") as found:
        yield found


@pytest.fixture(scope="module")
def url(endpoint: tuple[str, Process]) -> str:
    """Return the endpoint's address."""
    return endpoint[0]


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    """Return a client with the first key."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S, headers={"X-API-Key": KEYS["shop"]}) as found:
        yield found


def ended(client: Any, job_id: str) -> dict[str, Any]:
    """Wait until a job has ended, and return its status."""
    until = time.monotonic() + PATIENCE_S
    while True:
        status: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        if status["state"] in ENDED:
            return status
        assert time.monotonic() < until, status
        time.sleep(0.3)


def test_a_job_does_what_one_request_does(
    client: Any, receiver: Receiver, photo_files: Path, remover: BackgroundRemover
) -> None:
    """Photos with options and a webhook give the library's pictures, each with its state; the receiver hears of it."""
    receiver.secret, receiver.failures = client.get("/jobs/webhook-secret").json()["secret"], 2
    photo = (photo_files / "astronaut.jpg").read_bytes()
    files = [("images", ("a.jpg", photo)), ("images", ("a.jpg", photo)), ("images", ("b.txt", b"no photo"))]
    options = {"format": "webp", "background": "white", "webhook": f"{receiver.url}/hooks/x"}
    headers = {"Idempotency-Key": "order-7"}
    sent = client.post("/jobs", files=files, data=options, headers=headers)
    assert sent.status_code == 202, sent.text
    job = sent.json()
    assert sent.headers["location"] == job["status_url"] == f"/jobs/{job['job_id']}"
    assert job["photos"] == 3 and job["eta_s"] > 0

    again = client.post("/jobs", files=files, data=options, headers=headers)
    assert (again.status_code, again.json()["job_id"]) == (202, job["job_id"])
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post("/jobs", files=files[:1], data=options, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")

    status = ended(client, job["job_id"])
    assert (status["state"], status["done"], status["failed"]) == ("finished", 2, 1), status
    first, second, third = status["results"]
    assert (first["file"], second["file"]) == ("a.webp", "a-2.webp")
    assert (third["status"], third["code"]) == ("failed", "unsupported_format")
    wanted = decode_image(remover.remove_background(photo, format="webp", background="white").data).pixels
    for row in (first, second):
        got = decode_image(client.get(f"/jobs/{job['job_id']}/results/{row['file']}").content).pixels
        # Another number of threads adds up in another order.
        assert np.abs(got.astype(int) - wanted).mean() < 0.5
    assert client.get(f"/jobs/{job['job_id']}/results/b.webp").status_code == 404
    packed = zipfile.ZipFile(io.BytesIO(client.get(f"/jobs/{job['job_id']}/results.zip").content))
    assert packed.namelist() == ["a.webp", "a-2.webp", "results.json"]
    assert packed.testzip() is None
    page = client.get(f"/jobs/{job['job_id']}", params={"offset": 1, "limit": 1}).json()
    assert [row["number"] for row in page["results"]] == [2]
    assert page["next"].endswith("?offset=2&limit=1")

    until = time.monotonic() + PATIENCE_S
    while not receiver.events and time.monotonic() < until:
        time.sleep(0.2)
    (event_id,) = receiver.events
    assert receiver.tries == [event_id] * 3
    assert receiver.unsigned == 0
    told = json.loads(receiver.events[event_id])
    assert (told["type"], told["job"]["job_id"], told["job"]["done"]) == ("job.finished", job["job_id"], 2)

    assert client.delete(f"/jobs/{job['job_id']}").json()["code"] == "job_ended"
    assert client.delete(f"/jobs/{job['job_id']}?purge=true").status_code == 204
    assert client.get(f"/jobs/{job['job_id']}").json()["code"] == "job_not_found"


def test_archives_addresses_and_cancelling(client: Any, url: str, receiver: Receiver, photo_files: Path) -> None:
    """A ZIP keeps its folders, addresses are fetched or fail alone, a queued and a running job can be cancelled."""
    receiver.photo = (photo_files / "chelsea.jpg").read_bytes()
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number in range(30):
            archive.writestr(f"sku/{number}.jpg", receiver.photo)
    packed = client.post("/jobs", content=sink.getvalue(), headers={"Content-Type": "application/zip"}).json()
    places = [f"{receiver.url}/photos/{name}" for name in ("a.jpg", "moved.jpg")]
    fetched = client.post("/jobs", json={"sources": places, "only_mask": True}).json()
    queued = client.post("/jobs", files={"images": receiver.photo}).json()

    assert client.delete(f"/jobs/{queued['job_id']}").json()["state"] == "cancelled"
    assert client.get(f"/jobs/{packed['job_id']}/results.zip").json()["code"] == "job_running"
    with httpx.Client(base_url=url, timeout=PATIENCE_S, headers={"X-API-Key": KEYS["other"]}) as stranger:
        for method, path in (("GET", ""), ("GET", "/results.zip"), ("GET", "/results/a.png"), ("DELETE", "")):
            answer = stranger.request(method, f"/jobs/{packed['job_id']}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), path
        assert stranger.get("/jobs").json() == {"jobs": [], "next": None}
    assert packed["job_id"] in [job["job_id"] for job in client.get("/jobs").json()["jobs"]]

    until = time.monotonic() + PATIENCE_S
    while not client.get(f"/jobs/{packed['job_id']}").json()["done"] and time.monotonic() < until:
        time.sleep(0.2)
    assert client.delete(f"/jobs/{packed['job_id']}").status_code in (202, 409)  # a fast machine may be done
    status = ended(client, packed["job_id"])
    assert status["results"][0]["name"] == "sku/0.jpg"
    row = next(row for row in status["results"] if row["status"] == "ok")
    assert row["file"].startswith("sku/")
    assert client.get(f"/jobs/{packed['job_id']}/results/{row['file']}").status_code == 200

    status = ended(client, fetched["job_id"])
    assert [row["status"] for row in status["results"]] == ["ok", "failed"], status
    assert status["results"][1]["code"] == "url_not_fetched"
    mask = client.get(f"/jobs/{fetched['job_id']}/results/{status['results'][0]['file']}").content
    assert decode_image(mask).pixels.size
    metrics = client.get("/metrics").text
    for name in ("ray_cutray_jobs", "ray_cutray_job_photos_total", "ray_cutray_webhook_attempts_total"):
        assert name in metrics


def test_what_cannot_be_taken_is_refused(client: Any, url: str, receiver: Receiver) -> None:
    """Each wrong request has its status and code, none is a fault of ours, and no process is lost."""
    files = [("images", (f"{number}.jpg", b"x")) for number in range(41)]
    cases = [
        (client.post("/jobs"), 400, "missing_image"),
        (client.post("/jobs", data={"format": "png"}), 400, "missing_image"),
        (client.post("/jobs", content=b"no photo"), 415, "unsupported_format"),
        (client.post("/jobs", json={"sources": []}), 400, "missing_image"),
        (client.post("/jobs", json={"sources": "a"}), 400, "bad_request"),
        (client.post("/jobs", json=[1]), 400, "bad_request"),
        (client.post("/jobs", content=b"{", headers={"Content-Type": "application/json"}), 400, "bad_request"),
        (client.post("/jobs", files=files), 400, "too_many_images"),
        (client.post("/jobs", json={"sources": [f"{receiver.url}/photos/a"] * 41}), 400, "too_many_images"),
        (client.post("/jobs", files=files[:1], data={"formt": "png"}), 400, "bad_option"),
        (client.post("/jobs", files=files[:1], data={"strokes": "/etc/passwd"}), 400, "bad_option"),
        (client.post("/jobs", files=files[:1], headers={"Idempotency-Key": "k" * 300}), 400, "bad_request"),
        (client.post("/jobs", json={"sources": ["file:///etc/passwd"]}), 403, "address_not_allowed"),
        (client.post("/jobs", json={"sources": ["http://169.254.169.254/"]}), 403, "address_not_allowed"),
        (client.post("/jobs", files=files[:1], data={"webhook": "http://127.0.0.1/"}), 403, "address_not_allowed"),
        (client.post("/jobs", files=files[:1], data={"target": "s3://b/"}), 403, "address_not_allowed"),
        (client.post("/jobs", files={"archive": b"PK\x03\x04 no ZIP"}), 422, "bad_archive"),
        (client.post("/jobs", content=b"PK\x03\x04 no ZIP"), 422, "bad_archive"),
        (client.get("/jobs/none"), 404, "job_not_found"),
        (client.post("/jobs", files=files[:1], data={"model": "u2net"}), 404, "unknown_model"),
        (client.delete("/jobs/none"), 404, "job_not_found"),
        (client.get("/jobs", params={"limit": "-1"}), 400, "bad_option"),
        (httpx.get(f"{url}/jobs", timeout=60), 401, "unauthorized"),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert client.get("/ready").status_code == 200


def test_from_bucket_to_bucket_with_another_model(client: Any, bucket: Any, photo_files: Path) -> None:
    """Photos of a bucket are done with the model that is named, and written to a bucket; a missing one fails alone."""
    photo = (photo_files / "chelsea.jpg").read_bytes()
    with bucket.open_output_stream("shop/photos/chelsea.jpg") as file:
        file.write(photo)
    sources = ["s3://shop/photos/chelsea.jpg", "s3://shop/photos/missing.jpg"]
    wanted = {"sources": sources, "target": "s3://shop/cutouts/2026/", "model": MODELS[1]}
    sent = client.post("/jobs", json=wanted)
    assert (sent.status_code, sent.json()["model"]) == (202, MODELS[1]), sent.text
    status = ended(client, sent.json()["job_id"])
    done, missing = status["results"]
    assert (done["status"], missing["status"], missing["code"]) == ("ok", "failed", "url_not_fetched"), status
    assert (status["model"], status["model_sha256"]) == (MODELS[1], resolve(MODELS[1], offline=True).sha256)
    assert done["url"] == f"s3://shop/cutouts/2026/{done['file']}"
    with bucket.open_input_stream(done["url"].removeprefix("s3://")) as file:
        written = file.read()
    assert written == client.get(f"/jobs/{status['job_id']}/results/{done['file']}").content
    expected = decode_image(BackgroundRemover(MODELS[1], offline=True).remove_background(photo).data).pixels
    assert np.abs(decode_image(written).pixels.astype(int) - expected).mean() < 0.5


def test_hostile_requests_are_refused(endpoint: tuple[str, Process], client: Any, receiver: Receiver) -> None:
    """No request of hundreds of kinds causes an answer of 5xx but 503, a lost process, or a file that is given away."""
    url, process = endpoint
    before = {name: replicas(process, name) for name in ("Ingress", "Cutter", "Segmenter", "JobRunner")}
    job_id = client.post("/jobs", json={"sources": [f"{receiver.url}/photos/moved.jpg"]}).json()["job_id"]
    statuses: dict[str, int] = {}
    for name, (method, path, sent) in hostile_requests(f"{receiver.url}/photos/"):
        answer = client.request(method, path, **sent)
        statuses[name] = answer.status_code
        if answer.status_code == 202:  # an address that is fetched, or not, by the job alone
            client.delete(f"/jobs/{answer.json()['job_id']}")
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as stranger:
        for name, (method, path, sent) in forged_calls(job_id):
            statuses[name] = stranger.request(method, path, **sent).status_code
            assert statuses[name] == 401, name
    for path in traversals(job_id):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEYS['shop']}\r\nConnection: close\r\n\r\n"
        statuses[path] = send_raw(url, head.encode(), whole=True)
        assert statuses[path] in (307, 400, 404), path
    counted = Counter(statuses.values())
    print(f"\n{len(statuses)} hostile requests; answers by status: {dict(sorted(counted.items()))}")
    assert len(statuses) > 300
    assert {name: status for name, status in statuses.items() if status >= 500 and status != 503} == {}
    lost = {name: pids for name in before if (pids := set(before[name]) - set(replicas(process, name)))}
    assert lost == {}  # second replicas may still have been on their way
    assert ended(client, job_id)["failed"] == 1
    assert client.get("/ready").status_code == 200


def test_a_key_has_a_quota(client: Any, photo_files: Path) -> None:
    """With as many jobs as a key may have, the next is refused with the time to come back."""
    photo = (photo_files / "camera.jpg").read_bytes()
    answers = [client.post("/jobs", files={"images": photo}) for _ in range(9)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and refused[0].json()["code"] == "quota_exceeded"
    assert int(refused[0].headers["retry-after"]) > 0
    for answer in answers:
        if answer.status_code == 202:
            client.delete(f"/jobs/{answer.json()['job_id']}")
