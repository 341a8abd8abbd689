"""New models on one real endpoint under load: broken ones are out within a minute, a good one is promoted by itself."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cutray.models import registry
from tests.pages import blocks, run_block

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("onnxruntime", reason="the networks are run by ONNX Runtime")
pytest.importorskip("mlflow", reason="the registry needs the extra 'train'")
httpx = pytest.importorskip("httpx")
from tests.challengers import BROKEN, write_network  # noqa: E402
from tests.endpoint import PATIENCE_S, Load, Process, replicas, running, write_config  # noqa: E402

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),  # of MLflow
]
KEYS = {"shop": "shop-key", "ops": "ops-key"}
RULES = {"min_requests": 20, "min_duration_s": 2, "max_p99_ratio": 20, "max_answer_s": 3}
OUT_WITHIN_S = 60
Endpoint = tuple[Any, Process, Path]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Run an endpoint with a small network and the page's keys; its client is an administrator."""
    folder = tmp_path_factory.mktemp("rollout")
    (args,) = (yaml.safe_load(block.text)["args"] for block in blocks("yaml", group="rollout") if "args:" in block.text)
    assert set(args["api_keys"]) == set(KEYS)
    config = write_config(
        folder / "serve.yaml",
        **args | {"api_keys": {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}},
        engine={"engine": "onnxruntime"},
        deployments={
            "Cutter": {"num_replicas": 1},
            "Segmenter": {"num_replicas": 1, "user_config": {"model": str(write_network(folder / "champion.onnx"))}},
        },
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        with (
            running(config, "--offline") as (url, process),
            httpx.Client(base_url=url, timeout=PATIENCE_S, headers={"x-api-key": KEYS["ops"]}) as client,
        ):
            yield client, process, folder


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    """Return a photo with a bright disc."""
    y, x = np.mgrid[:240, :320]
    disc = np.where((x - 160) ** 2 + (y - 120) ** 2 < 3600, 230, 20).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(np.dstack([disc] * 3)).save(sink, "JPEG")
    return sink.getvalue()


def begin(client: Any, model: Path | str, **changes: Any) -> dict[str, Any]:
    """Start a roll-out."""
    body = {"model": str(model), "shadow": 0.3, "canary": 0.3, "rules": RULES, **changes}
    answer = client.post("/rollout", json=body)
    assert answer.status_code == 202, answer.text
    started: dict[str, Any] = answer.json()
    return started


def state_after(client: Any, *passing: str) -> dict[str, Any]:
    """Wait until a roll-out has left some states; an Ingress that is lost comes back."""
    until = time.monotonic() + PATIENCE_S
    told: dict[str, Any] = {}
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            answer = client.get("/rollout")
            told = answer.json()
            if answer.status_code == 200 and told["state"] not in passing:
                return told
        time.sleep(0.2)
    raise AssertionError(told)


def wait_until_gone(process: Process) -> None:
    """Wait until no process of a challenger is left."""
    until = time.monotonic() + PATIENCE_S
    while challengers(process):
        assert time.monotonic() < until
        time.sleep(0.2)


def challengers(process: Process) -> list[int]:
    """Return the process ids of challengers."""
    return replicas(process, "", "cutray-rollout-")


@pytest.mark.parametrize("kind", [*BROKEN, "killed", "inverse"])
def test_a_broken_challenger_is_out_within_a_minute(endpoint: Endpoint, jpeg: bytes, kind: str) -> None:
    """It breaks when it is loaded or used, or finds what is dark: rolled back with the reason, and no request fails."""
    client, process, folder = endpoint
    model = write_network(folder / f"{kind}.onnx", "" if kind == "killed" else kind)
    before = replicas(process, "Segmenter")
    with Load(client, jpeg) as load:
        started = time.monotonic()
        # What is wrong but whole may not be shown to users: that is what a shadow is for.
        begin(client, model, **({"canary": 0.0} if kind in ("inverse", "killed") else {}))
        while kind == "killed" and state_after(client, "loading")["state"] == "running":
            for pid in challengers(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        told = state_after(client, "loading", "running")
        seconds = time.monotonic() - started
        answered = len(load.answers)
        load.wait_for(lambda answers: len(answers) > answered + 5)
    failed = [answer for answer in load.answers if answer != (200, "champion")]
    print(f"\n| {kind} | {len(load.answers)} | {len(failed)} | {seconds:.1f} | {told['reason'][:160]} |")
    assert told["state"] == "rolled_back"
    assert failed == []
    assert seconds < OUT_WITHIN_S
    words = {
        "load": "could not be loaded",
        "hang": "timeout",
        "nan": "nan",
        "size": "(1, 1, 32, 64)",
        "inverse": "IoU",
        "killed": "failed",
    }
    assert words.get(kind, "") in told["reason"]
    assert replicas(process, "Segmenter") == before
    wait_until_gone(process)


def test_lost_processes_do_not_end_a_roll_out(endpoint: Endpoint, jpeg: bytes) -> None:
    """Ingress and controller are killed: it goes on with its figures; a second one is refused, and abort ends it."""
    client, process, folder = endpoint
    started = begin(client, write_network(folder / "patient.onnx"), rules={**RULES, "auto_promote": False})
    refused = client.post("/rollout", json={"model": "u2netp", "shadow": 0.1})
    assert (refused.status_code, refused.json()["code"]) == (409, "rollout_running")
    assert state_after(client, "loading")["state"] == "running"
    with Load(client, jpeg) as load:
        load.wait_for(lambda answers: sum(model == "patient" for _, model in answers) > 5)
    time.sleep(3)  # figures are kept every two seconds
    for name in ("RolloutController", "Ingress"):
        (pid,) = replicas(process, name)
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + PATIENCE_S
        while pid in replicas(process, name) or not replicas(process, name):
            assert time.monotonic() < until
            time.sleep(0.2)
    told = state_after(client, "loading")
    assert (told["rollout_id"], told["state"]) == (started["rollout_id"], "running")
    assert told["figures"]["canary_answers"] > 5
    ended = client.post("/rollout/abort").json()
    assert (ended["state"], ended["reason"]) == ("aborted", "asked for")
    assert (
        client.post("/rollout/abort").json()["code"] == client.post("/rollout/promote").json()["code"] == "no_rollout"
    )
    time.sleep(2)
    assert client.post("/remove-background", files={"image": jpeg}).headers["x-model"] == "champion"
    wait_until_gone(process)


def test_a_good_challenger_is_promoted_by_itself(endpoint: Endpoint, jpeg: bytes, tmp_path: Path) -> None:
    """By the page's steps, from the registry: canaries, then the swap in place, the alias, a run in MLflow, metrics."""
    client, process, folder = endpoint
    made = tmp_path / "made"
    made.mkdir()
    write_network(made / registry.FILE, steepness=3.0)
    version = registry.register("shoes", made, {})
    registry.set_alias("shoes", "challenger", version)
    (rules,) = (block for block in blocks("yaml", group="rollout") if "min_requests" in block.text)
    (tmp_path / "rules.yaml").write_text(rules.text.replace("max_p99_ratio: 3 ", "max_p99_ratio: 20 "))
    before = replicas(process, "Segmenter")
    with Load(client, jpeg) as load:
        for block in blocks("sh", group="rollout"):
            run_block(block, tmp_path, CUTRAY_URL=str(client.base_url), CUTRAY_API_KEY=KEYS["ops"])
        answered = len(load.answers)
        load.wait_for(lambda answers: len(answers) > answered + 5)
    told = state_after(client, "loading", "running", "promoting")
    name = f"shoes/{version}"
    assert (told["state"], told["model"]) == ("promoted", f"models:/{name}")
    assert {status for status, _ in load.answers} == {200}
    assert {model for _, model in load.answers} == {"champion", name}
    assert {model for _, model in load.answers[-5:]} == {name}
    assert replicas(process, "Segmenter") == before
    assert registry.champion_of("shoes", "champion") == f"models:/{name}"
    assert told["figures"]["mean_iou"] > 0.9
    _check_records(client, told, folder)


def _check_records(client: Any, told: dict[str, Any], folder: Path) -> None:
    """Look for the roll-out in MLflow and among the metrics."""
    store = registry.client(f"sqlite:///{folder / 'mlflow.db'}")
    until = time.monotonic() + PATIENCE_S
    runs: list[Any] = []
    while not [run for run in runs if run.info.status == "FINISHED"]:
        assert time.monotonic() < until, runs
        time.sleep(1)
        experiment = store.get_experiment_by_name("rollouts")
        query = f"tags.rollout_id = '{told['rollout_id']}'"
        runs = store.search_runs([experiment.experiment_id], query) if experiment else []
    (run,) = runs
    assert (run.data.tags["state"], run.data.tags["reason"]) == ("promoted", told["reason"])
    assert run.data.metrics["challenger_answers"] == told["figures"]["challenger_answers"]
    assert run.data.params["min_requests"] == "20"
    wanted = {"rollout_state", "rollout_photos_total", "rollout_forward_ms_bucket", "rollout_mask_iou_bucket"}
    while wanted:
        assert time.monotonic() < until, wanted
        text = client.get("/metrics").text
        wanted = {name for name in wanted if f"ray_cutray_{name}" not in text}
        time.sleep(0.5)


def test_a_person_may_promote(endpoint: Endpoint, jpeg: bytes) -> None:
    """Without a photo and whatever the rules say; a file is taken by its path, and the YAML's owner is told."""
    client, process, folder = endpoint
    begin(client, write_network(folder / "newest.onnx"), rules={**RULES, "min_requests": 10_000})
    assert state_after(client, "loading")["state"] == "running"
    assert client.post("/rollout/promote").status_code == 202
    told = state_after(client, "running", "promoting")
    assert (told["state"], told["reason"]) == ("promoted", "asked for")
    assert "newest.onnx into the YAML" in told["notes"][0]
    assert client.post("/remove-background", files={"image": jpeg}).headers["x-model"] == "newest"
    wait_until_gone(process)
