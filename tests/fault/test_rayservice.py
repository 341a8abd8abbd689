"""What KubeRay does with the RayService, done by hand on two hosts: start, deploy, probe, upgrade in place."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import require_weights
from tests.hosts import ROOT, Host, Network, network, wait_until, why_not
from tests.scenes import write_pairs

pytest.importorskip("ray.serve")
pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "hosts can be made")

RAY = Path(sys.executable).with_name("ray")
# The operator speaks to the dashboard of the head, with the token, from elsewhere.
OPERATOR = """
import sys, urllib.request
token, url = open(sys.argv[1]).read(), sys.argv[2]
data = open(sys.argv[3], "rb").read() if len(sys.argv) > 3 else None
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
request = urllib.request.Request(url, data, headers, method="PUT" if data else "GET")
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
# As the kubelet asks: no token.
PROBE = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).status)"
# Sends photos one after the other and tells the status of each.
CLIENT = """
import sys, time, urllib.error, urllib.request
photo = open(sys.argv[1], "rb").read()
while True:
    try:
        url, kind = f"http://{sys.argv[2]}:8000/remove-background", {"Content-Type": "image/png"}
        request = urllib.request.Request(url, photo, kind)
        status = urllib.request.urlopen(request, timeout=60).status
    except (OSError, urllib.error.HTTPError) as error:
        status = getattr(error, "code", repr(error))
    print(status, flush=True)
    time.sleep(0.2)
"""


class Pods:
    """The hosts that stand for the head, a worker, and the operator beside them."""

    def __init__(self, net: Network, manifest: dict[str, Any]) -> None:
        """Start Ray as the operator would: the groups' parameters, the containers' environment and ports."""
        self.net, self.config = net, manifest["spec"]["rayClusterConfig"]
        self.head, self.worker, self.operator = (net.hosts[name] for name in ("head", "worker", "operator"))
        groups = {self.head: self.config["headGroupSpec"], self.worker: self.config["workerGroupSpecs"][0]}
        for host, group in groups.items():
            container = group["template"]["spec"]["containers"][0]
            words = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
            if host is self.worker:
                words += [
                    f"--address={self.head.address}:6379",
                    f"--num-cpus={container['resources']['limits']['cpu']}",
                ]
            else:
                words.append("--head")
            words += [
                "--metrics-export-port=8080",
                f"--node-ip-address={host.address}",
                "--object-store-memory=200000000",
            ]
            variables = {entry["name"]: entry["value"] for entry in container.get("env", [])}
            host.start(RAY, "start", *words, "--block", log="ray", **variables)
            wait_until(lambda host=host: "started" in host.log("ray"), f"{host.name} is up", 90)

    def ask(self, path: str, *files: Path) -> dict[str, Any]:
        """Ask the dashboard as the operator does; a file is put there."""
        token = self.operator.environment["RAY_AUTH_TOKEN_PATH"]
        answer = self.operator.python(OPERATOR, token, f"http://{self.head.address}:8265{path}", *files)
        return dict(json.loads(answer)) if answer.strip().startswith("{") else {}

    def deploy(self, config: str) -> None:
        """Put Serve's configuration there, and wait until it runs."""
        file = self.operator.folder / "serve.json"
        file.write_text(json.dumps(yaml.safe_load(config)))
        self.ask("/api/serve/applications/", file)
        wait_until(lambda: self._status() == "RUNNING", f"the application runs ({self._status()})", 240, 1.0)

    def _status(self) -> str:
        applications = self.ask("/api/serve/applications/")["applications"]
        return str(applications.get("cutray", {}).get("status"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Generate the RayService from the production configuration, on processors and with the small model."""
    require_weights("u2netp")
    folder = tmp_path_factory.mktemp("service")
    plan = yaml.safe_load((ROOT / "serve_apps" / "remover.prod.yaml").read_text())
    application = plan["applications"][0]
    application["args"]["engine"] = {"device": "cpu"}
    segmenter = next(entry for entry in application["deployments"] if entry["name"] == "Segmenter")
    segmenter["ray_actor_options"] = {"num_cpus": 1}
    segmenter["user_config"] |= {"model": "u2netp", "max_batch_size": 1, "batch_wait_s": 0}
    (folder / "cpu.prod.yaml").write_text(yaml.safe_dump(plan))
    command = [sys.executable, "-m", "cluster.generate", "--serve", folder / "cpu.prod.yaml", "-o", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    loaded: dict[str, Any] = yaml.safe_load((folder / "rayservice.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def pods(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    with network(tmp_path_factory.mktemp("hosts"), ["head", "worker", "operator"]) as net:
        pods = Pods(net, manifest)
        pods.deploy(manifest["spec"]["serveConfigV2"])
        yield pods


def _probes(host: Host, group: dict[str, Any]) -> list[str]:
    """Return the addresses that a pod's probes ask."""
    container = group["template"]["spec"]["containers"][0]
    found = [container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    return [f"http://{host.address}:{one['port']}{one['path']}" for one in found]


def test_probes_find_ready_pods(pods: Pods) -> None:
    """Each address that a probe asks answers 200 without a token, on the head and on a worker with replicas."""
    config = pods.config
    urls = [*_probes(pods.head, config["headGroupSpec"]), *_probes(pods.worker, config["workerGroupSpecs"][0])]
    assert len(urls) == 4
    assert [pods.operator.python(PROBE, url).strip() for url in urls] == ["200"] * 4, urls


def test_a_changed_model_is_swapped_under_requests(pods: Pods, manifest: dict[str, Any], tmp_path: Path) -> None:
    """A new ``user_config`` reaches running replicas, and no request is lost meanwhile."""
    photo = write_pairs(tmp_path / "data", 1, side_px=160) / "images" / "000.png"
    client = pods.operator.start(sys.executable, "-c", CLIENT, photo, pods.worker.address, log="client")
    said = lambda: pods.operator.log("client").split("\n")[:-1]  # noqa: E731
    wait_until(lambda: len(said()) >= 5, "answers", 60)
    plan = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    segmenter = next(entry for entry in plan["applications"][0]["deployments"] if entry["name"] == "Segmenter")
    segmenter["user_config"]["model"] = "u2net"
    pods.deploy(yaml.safe_dump(plan))
    model = lambda: pods.operator.python(PROBE.replace(".status", ".read().decode()"), url)  # noqa: E731
    url = f"http://{pods.worker.address}:8000/model-info"
    wait_until(lambda: '"u2net"' in model(), "the new model answers", 120, 1.0)
    time.sleep(2)
    client.terminate()
    client.wait(20)
    assert len(said()) > 10 and set(said()) == {"200"}, said()
