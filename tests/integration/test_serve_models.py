"""Several models behind one real endpoint, the traces of what it does, and the networks alone by the open protocol."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cutray.config import EngineSettings
from cutray.imaging.decode import decode_image
from cutray.models.weights import resolve
from cutray.preprocess import prepare
from cutray.remover import BackgroundRemover
from cutray.segmenter import Segmenter
from tests.conftest import ENGINE, require_weights
from tests.pages import blocks, run_block

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="traces need the extra 'traces'")
httpx = pytest.importorskip("httpx")
from tests.collector import Collector  # noqa: E402
from tests.endpoint import PATIENCE_S, replicas, running, write_config  # noqa: E402

VOTE = "u2netp+u2netp-distilled"
MODELS = ("u2netp", "u2netp-distilled", VOTE)
KEY = "s3cret"
LENGTH = "Inference-Header-Content-Length"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Run a collector."""
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[tuple[Any, Any, Path]]:
    """Run an endpoint with three models that exports its traces; its client has a key."""
    require_weights("u2netp")
    config = write_config(
        tmp_path_factory.mktemp("serve") / "serve.yaml",
        models=list(MODELS),
        engine={"engine": ENGINE},
        api_keys={"shop": hashlib.sha256(KEY.encode()).hexdigest()},
        limits={"max_body_bytes": 16 << 20, "max_tensor_json_bytes": 15 << 20, "deadline_s": 55},
        deployments={
            "Cutter": {"num_replicas": 1},
            "Segmenter": {"num_replicas": 1, "user_config": {"max_batch_size": 2}},
        },
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with (
            running(config, "--offline") as (url, process),
            httpx.Client(base_url=url, timeout=PATIENCE_S, headers={"x-api-key": KEY}) as http_client,
        ):
            yield http_client, process, config


@pytest.fixture(scope="module")
def client(endpoint: tuple[Any, Any, Path]) -> Any:
    """Return an HTTP client of the endpoint."""
    return endpoint[0]


@pytest.fixture(scope="module")
def jpeg(photo_files: Path) -> bytes:
    """Return one photo as JPEG."""
    return (photo_files / "astronaut.jpg").read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_each_models_pixels_equal_the_librarys(client: Any, jpeg: bytes, model: str) -> None:
    """The field `model` chooses the network; the result is what the library gives with it."""
    result = BackgroundRemover(model, engine=ENGINE, offline=True).remove_background(jpeg)
    expected = result.data
    answer = client.post("/remove-background", files={"image": jpeg}, data={"model": model})
    assert (answer.status_code, answer.headers["x-model"]) == (200, model)
    assert answer.headers["x-engine"] == str(result.report.engine)
    assert answer.content == expected
    in_query = client.post("/remove-background", params={"model": model}, content=jpeg)
    assert in_query.content == expected
    rembg = client.post("/api/remove", files={"file": jpeg}, data={"model": model})
    assert (rembg.headers["x-model"], rembg.headers.get("x-notes")) == (model, None)


def test_the_first_model_is_the_default(client: Any, jpeg: bytes) -> None:
    """Without the field, and in an edit that names another one, the right network answers."""
    assert client.post("/remove-background", files={"image": jpeg}).headers["x-model"] == MODELS[0]
    edit = client.post("/edits", files={"file": jpeg}, data={"model": MODELS[1]}).json()
    assert edit["report"]["model"] == MODELS[1]
    marked = client.post(f"/edits/{edit['id']}/strokes", data={"box": "100,50,400,500"})
    assert f'"model": "{MODELS[1]}"' in marked.headers["x-report"]


def test_a_plus_in_a_query_need_not_be_escaped(client: Any, jpeg: bytes) -> None:
    """`?model=a+b` reads as a space, and is understood."""
    answer = client.post(f"/remove-background?model={VOTE}", content=jpeg)
    assert (answer.status_code, answer.headers["x-model"]) == (200, VOTE)


@pytest.mark.parametrize("path", ["/remove-background", "/batch-remove-background", "/edits", "/api/remove"])
def test_other_models_are_refused_with_a_list(client: Any, jpeg: bytes, path: str) -> None:
    """A model that exists but is not listed, a path and an address are unknown; the message says what is allowed."""
    field = "images" if path.startswith("/batch") else "file"
    for model in ("u2net", "/etc/passwd", "models:/shoes@champion", "x" * 5000):
        refused = client.post(path, files={field: jpeg}, data={"model": model})
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_model")
        assert ", ".join(MODELS) in refused.json()["message"]


def test_all_models_are_told(client: Any) -> None:
    """/model-info lists each with its hash, /ready with its state."""
    info = client.get("/model-info").json()
    assert info["name"] == MODELS[0]
    assert list(info["models"]) == list(MODELS)
    assert len({model["sha256"] for model in info["models"].values()}) == len(MODELS)
    assert {name: model["status"] for name, model in client.get("/ready").json()["models"].items()} == dict.fromkeys(
        MODELS, "ready"
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_pages_commands_work(client: Any, jpeg: bytes, tmp_path: Path) -> None:
    """The guide's list is the one that is served here, and its requests succeed."""
    (listed,) = blocks("yaml", group="serving with models")
    assert yaml.safe_load(listed.text)["args"]["models"] == list(MODELS)
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    for block in blocks("sh", group="serving with models"):
        text = 'curl() { command curl -sS --fail-with-body -H "X-API-Key: $KEY" "$@"; }\n' + block.text
        run_block(replace(block, text=text.replace("localhost:8000", str(client.base_url))), tmp_path, KEY=KEY)
    assert decode_image((tmp_path / "vote.png").read_bytes()).alpha is not None


def test_what_is_counted_names_the_model(client: Any) -> None:
    """Stages and passes of the network have a label for it."""
    names = ("ray_cutray_stage_ms_count{", "ray_cutray_forward_ms_count{", "ray_cutray_batch_size_count{")
    wanted = {(name, f'model="{model}"') for name in names for model in MODELS}
    until = time.monotonic() + PATIENCE_S
    while wanted:
        assert time.monotonic() < until, wanted
        lines = client.get("/metrics").text.splitlines()
        wanted = {(name, label) for name, label in wanted if not any(name in line and label in line for line in lines)}
        time.sleep(0.5)


def test_spans_of_all_processes_are_one_trace(client: Any, collector: Collector, jpeg: bytes) -> None:
    """The caller's trace goes on through proxy, Ingress, Cutter and Segmenter, each span below the right one."""
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "traced-1"}
    answer = client.post("/remove-background", files={"image": jpeg}, headers=headers)
    assert answer.headers["traceparent"].split("-")[1] == TRACE
    until = time.monotonic() + PATIENCE_S
    parts = {"proxy", "Ingress", "Cutter", "Segmenter"}
    while {resource["cutray.part"] for resource, _ in collector.of_trace(TRACE)} != parts:
        assert time.monotonic() < until, collector.of_trace(TRACE)
        time.sleep(0.2)
    time.sleep(1)  # the rest of each process
    found = collector.of_trace(TRACE)
    assert {resource["service.name"] for resource, _ in found} == {"cutray"}
    name_of = {span.span_id.hex(): span.name for _, span in found} | {CALLER: "caller"}
    joined = {(name_of[span.parent_span_id.hex()], span.name) for _, span in found}
    assert joined == {
        ("caller", "proxy POST"),
        ("proxy POST", "Ingress POST"),
        ("Ingress POST", "cut"),
        ("cut", "decode"),
        ("cut", "predict"),
        ("predict", "segment"),
        ("segment", "engine"),
        ("cut", "postprocess"),
    }
    ids = [pair.value.string_value for _, span in found for pair in span.attributes if pair.key == "cutray.request_id"]
    assert ids == ["traced-1", "traced-1"]


def test_a_broken_or_unsampled_context_does_no_harm(client: Any, collector: Collector, jpeg: bytes) -> None:
    """What is no context begins a trace of its own; a caller that does not sample gets no spans."""
    for wrong in ("x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "é" * 9, "9" * 4000):
        answer = client.post("/remove-background", content=jpeg, headers={"traceparent": wrong.encode("latin-1")})
        assert answer.status_code == 200
        assert len(answer.headers["traceparent"].split("-")[1]) == 32
    unsampled = "1" * 32
    client.post("/remove-background", content=jpeg, headers={"traceparent": f"00-{unsampled}-{CALLER}-00"})
    time.sleep(1)
    assert collector.of_trace(unsampled) == []


def prepared(jpeg: bytes, model: str) -> np.ndarray:
    """Prepare a photo as the library does for a model, (1, 3, S, S) float32."""
    return prepare(decode_image(jpeg).pixels, resolve(model, offline=True).spec)[None]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("raw", [True, False])
def test_the_open_protocol_gives_the_networks_own_maps(client: Any, jpeg: bytes, model: str, raw: bool) -> None:
    """By raw bytes and by JSON, two pictures' maps are those that the engine gives for the same tensor."""
    batch = np.concatenate([prepared(jpeg, model)] * 2)
    wanted = Segmenter.load(EngineSettings(model=model, engine=ENGINE, offline=True)).engine.infer(batch)
    described = client.get(f"/v2/models/{model}").json()
    (given,), (output,) = described["inputs"], described["outputs"]
    assert given == {"name": "image", "datatype": "FP32", "shape": [-1, 3, 320, 320]}
    tensor = {**given, "shape": list(batch.shape)}
    tensor |= {"parameters": {"binary_data_size": batch.nbytes}} if raw else {"data": batch.tolist()}
    request = {"id": "r1", "inputs": [tensor]}
    request |= {"outputs": [{"name": output["name"], "parameters": {"binary_data": True}}]} if raw else {}
    head = json.dumps(request).encode()
    body, length = (head + batch.tobytes(), {LENGTH: str(len(head))}) if raw else (head, {})
    answer = client.post(f"/v2/models/{model}/infer", content=body, headers=length)
    assert answer.status_code == 200, answer.text
    end = int(answer.headers[LENGTH]) if raw else None
    told = json.loads(answer.content[:end])
    (maps,) = told["outputs"]
    assert (told["id"], told["model_name"], maps["name"], maps["shape"]) == ("r1", model, "probs", [2, 1, 320, 320])
    values = np.frombuffer(answer.content[end:], "<f4") if raw else np.asarray(maps["data"], np.float32)
    assert np.array_equal(values.reshape(wanted.shape), wanted)


def test_the_open_protocol_tells_how_things_are(client: Any) -> None:
    """Server, models and their readiness; what it needs to prepare a picture is in the metadata."""
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    for model in MODELS:
        assert client.get(f"/v2/models/{model}/ready").json() == {"name": model, "ready": True}
    spec = resolve("u2netp", offline=True).spec
    told = client.get("/v2/models/u2netp").json()["parameters"]
    assert told == {"scale": spec.scale, "mean": list(spec.mean), "std": list(spec.std)}


def test_wrong_tensors_are_refused(client: Any, jpeg: bytes) -> None:
    """Shape, type, values, sizes and JSON that do not fit: 4xx with a code, a message and the protocol's `error`."""
    good = prepared(jpeg, "u2netp")
    tensor = {"name": "image", "datatype": "FP32", "shape": list(good.shape)}
    raw = {**tensor, "parameters": {"binary_data_size": good.nbytes}}
    poisoned = good.copy()
    poisoned[0, 1, 2, 3] = np.nan
    bodies: list[tuple[bytes, bytes | None]] = [
        (b"", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b'"text"', None),
        (b'{"inputs": 3}', None),
        (b'{"inputs": [{}, {}]}', None),
        (json.dumps({"inputs": [{**tensor, "data": [0.0] * 7}]}).encode(), None),
        (json.dumps({"inputs": [{**tensor, "data": [[1], [2, 3]]}]}).encode(), None),
        (json.dumps({"inputs": [{**tensor, "data": ["a"] * good.size}]}).encode(), None),
        (json.dumps({"inputs": [{**tensor, "data": [10**30] * good.size}]}).encode(), None),
        (json.dumps({"inputs": [{**tensor, "data": [255.0] * good.size}]}).encode(), None),
        (json.dumps({"id": 7, "inputs": [raw]}).encode(), good.tobytes()),
        (json.dumps({"inputs": [raw], "outputs": [{"name": "d0"}]}).encode(), good.tobytes()),
        (json.dumps({"inputs": [raw], "outputs": [3]}).encode(), good.tobytes()),
        (json.dumps({"inputs": [raw], "parameters": []}).encode(), good.tobytes()),
        (json.dumps({"inputs": [raw]}).encode(), good.tobytes()[:-1]),
        (json.dumps({"inputs": [raw]}).encode(), good.tobytes() * 2),
        (json.dumps({"inputs": [raw]}).encode(), poisoned.tobytes()),
        (json.dumps({"inputs": [raw]}).encode(), np.full_like(good, 3e38).tobytes()),
        *[
            (json.dumps({"inputs": [{**raw, **wrong}]}).encode(), good.tobytes())
            for wrong in (
                {"name": "input.1"},
                {"datatype": "UINT8"},
                {"shape": [1, 3, 320]},
                {"shape": [0, 3, 320, 320]},
                {"shape": [-1, 3, 320, 320]},
                {"shape": [10**9, 3, 320, 320]},
                {"shape": [True, 3, 320, 320]},
                {"shape": [11, 3, 320, 320]},
                {"parameters": {"binary_data_size": -1}},
                {"parameters": {"binary_data_size": "many"}},
                {"parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 4}},
            )
        ],
    ]
    for head, tail in bodies:
        length = {} if tail is None else {LENGTH: str(len(head))}
        refused = client.post("/v2/models/u2netp/infer", content=head + (tail or b""), headers=length)
        body = refused.json()
        assert (refused.status_code, body["code"]) == (400, "bad_tensor"), (head[:200], refused.text)
        assert body["error"] == body["message"]
        assert body["request_id"] == refused.headers["x-request-id"]
    for length in ("-1", "x", "9" * 50, "99999999"):
        refused = client.post("/v2/models/u2netp/infer", content=b"{}", headers={LENGTH: length})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_tensor")


def test_limits_and_keys_hold_for_tensors_too(client: Any) -> None:
    """No key, too long a body and an unknown model are refused as elsewhere, with the protocol's `error` as well."""
    path = "/v2/models/u2netp/infer"
    refusals = [
        (client.post(path, content=b"{}", headers={"x-api-key": "wrong"}), 401, "unauthorized"),
        (client.get("/v2", headers={"x-api-key": "wrong"}), 401, "unauthorized"),
        (client.post(path, content=bytes(17 << 20)), 413, "body_too_large"),
        (client.post(path, content=bytes(31 << 19)), 413, "body_too_large"),  # as JSON; raw bytes may be as many
        (client.post("/v2/models/u2net/infer", content=b"{}"), 404, "unknown_model"),
        (client.get("/v2/models/u2netp/versions/1"), 404, "not_found"),
        (client.get(path), 405, "method_not_allowed"),
    ]
    for refused, status, code in refusals:
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.json()["error"] == refused.json()["message"]
    assert client.get("/v2/health/ready", headers={"x-api-key": ""}).status_code == 200


def test_one_model_is_swapped_in_place(endpoint: tuple[Any, Any, Path], jpeg: bytes, tmp_path: Path) -> None:
    """After SIGHUP the same process runs another file under its name, and no photo fails; a broken one is kept out."""
    client, process, config = endpoint
    own, broken = tmp_path / "other.onnx", tmp_path / "broken.onnx"
    shutil.copy(require_weights("u2netp"), own)
    broken.write_bytes(b"no network")
    plan = yaml.safe_load(config.read_text())
    deployments = plan["applications"][0]["deployments"]
    entry = {**deployments[-1], "name": f"Segmenter-{MODELS[1]}"}
    before = replicas(process, entry["name"])

    def switch(model: Path, told: Callable[[Any], bool]) -> None:
        entry["user_config"] = {"model": str(model)}
        plan["applications"][0]["deployments"] = [*deployments, entry]
        config.write_text(yaml.safe_dump(plan))
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + PATIENCE_S
        while not told(client.get("/ready").json()["models"]):
            assert time.monotonic() < until, client.get("/ready").text
            assert client.post("/remove-background", content=jpeg).headers["x-model"] == MODELS[0]
            answer = client.post(f"/remove-background?model={MODELS[1]}", content=jpeg)
            assert answer.status_code == 200

    switch(broken, lambda models: models[MODELS[1]]["swap_error"] == "engine_failed")
    assert client.get("/model-info").json()["models"][MODELS[1]]["name"] == MODELS[1]
    switch(own, lambda models: models[MODELS[1]]["swap_error"] is None)
    answer = client.post(f"/remove-background?model={MODELS[1]}", content=jpeg)
    assert answer.content == BackgroundRemover("u2netp", engine=ENGINE, offline=True).remove_background(jpeg).data
    assert replicas(process, entry["name"]) == before
