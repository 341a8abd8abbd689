"""Three hosts with own addresses: one is cut off and comes back under a batch, a training and an endpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.batches import batch_rows, hashes_of
from tests.conftest import require_weights
from tests.hosts import ROOT, Cluster, network, wait_until, why_not
from tests.scenes import write_pairs
from tests.training import TINY

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "hosts can be made")

CUT = "three"
PHOTOS = 240
SCRIPTS = ROOT / "cluster" / "hosts"
# Opens a connection to every port of an address and prints those that answer.
SCAN = """
import selectors, socket, sys, time
host, found = sys.argv[1], []
for first in range(1, 65536, 800):
    with selectors.DefaultSelector() as waiting:
        for port in range(first, min(first + 800, 65536)):
            probe = socket.socket()
            probe.setblocking(False)
            if probe.connect_ex((host, port)) == 0:
                found.append(port)
            waiting.register(probe, selectors.EVENT_WRITE, port)
        until = time.monotonic() + 0.3
        while waiting.get_map() and time.monotonic() < until:
            for key, _ in waiting.select(0.05):
                if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(key.data)
                waiting.unregister(key.fileobj)
                key.fileobj.close()
        for key in list(waiting.get_map().values()):
            key.fileobj.close()
print(*sorted(set(found)))
"""
# Sends a photo every half second to the hosts in turn, and goes on to the next one when one does not answer in time.
CLIENT = """
import itertools, json, sys, time, urllib.request
photo, hosts = open(sys.argv[1], "rb").read(), itertools.cycle(sys.argv[2:])
head = b'--b\\r\\nContent-Disposition: form-data; name="image"; filename="p"\\r\\n\\r\\n'
while True:
    begun, tries, status = time.monotonic(), 0, 0
    while status != 200 and tries < 20:
        tries += 1
        url, kind = f"http://{next(hosts)}:8000/remove-background", {"Content-Type": "multipart/form-data; boundary=b"}
        request = urllib.request.Request(url, head + photo + b"\\r\\n--b--\\r\\n", kind)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                status = answer.status if len(answer.read()) > 100 else 0
        except OSError:
            time.sleep(0.3)
    told = {"begun": begun, "seconds": time.monotonic() - begun, "tries": tries, "status": status}
    print(json.dumps(told), flush=True)
    time.sleep(0.5)
"""
ACTORS = """
import time, ray
from cutray.training.progress import start_progress_actor
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
actors = [start_progress_actor() for _ in range(9)]
ray.get([actor.read.remote() for actor in actors])
from ray.util.state import list_actors
own = ray.get_runtime_context().get_node_id()
job = ray.get_runtime_context().get_job_id()
print(*[actor.node_id == own for actor in list_actors(filters=[("job_id", "=", job)])])
"""
STATUS = """
import sys, urllib.request, urllib.error
headers = {"Authorization": "Bearer " + open(sys.argv[1]).read()} if len(sys.argv) > 1 else {}
try:
    request = urllib.request.Request("http://127.0.0.1:8265/api/jobs/", headers=headers)
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
TABLE: list[tuple[str, float, float, str]] = []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    require_weights("u2netp")
    quick = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
    quick["RAY_worker_niceness"] = "0"  # else whatever runs beside the test comes first
    with network(tmp_path_factory.mktemp("hosts"), ["one", "two", CUT, "outside"], **quick) as net:
        yield Cluster(net, "one", ["two", CUT])
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n| work | lost after, s | back after, s | meanwhile |\n|---|---|---|---|")
        for work, lost_s, back_s, meanwhile in TABLE:
            print(f"| {work} | {lost_s:.0f} | {back_s:.0f} | {meanwhile} |")


def _cut(cluster: Cluster) -> tuple[float, float]:
    """Pull the cable; returns the moments of that and of the host's loss."""
    address = cluster.net.hosts[CUT].address
    cut = cluster.net.cut(CUT)
    return cut, float(wait_until(lambda: cluster.changed(address, False, cut), "the loss is noticed", 120))


def _mend(cluster: Cluster) -> tuple[float, float]:
    """Put the cable back; returns the moments of that and of the host's return."""
    address = cluster.net.hosts[CUT].address
    mended = cluster.net.mend(CUT)
    return mended, float(wait_until(lambda: cluster.changed(address, True, mended), "the host is back", 180))


def test_what_a_job_depends_on_stays_with_its_driver(cluster: Cluster) -> None:
    """Actors without which a job cannot go on are never put on a host that may be lost."""
    placed = cluster.head.python(ACTORS).split()
    assert placed == ["True"] * 9


def test_a_batch_does_every_photo_once(cluster: Cluster, tmp_path: Path) -> None:
    """With a host cut off and back again, each photo has one row, and results are those of an undisturbed batch."""
    write_pairs(tmp_path / "scenes", PHOTOS, side_px=128)
    source, target = tmp_path / "scenes" / "images", tmp_path / "cut"
    options = ["-m", "u2netp", "--threads", 1, "--no-report"]
    batch = [sys.executable, "-m", "pipelines.batch_remove", source]
    spread = ["--address", f"{cluster.head.address}:6379", "--cpus-per-actor", 4, "--photos-per-task", 4]
    process = cluster.head.start(*batch, target, *spread, *options, log="batch")
    wait_until(lambda: len(list(target.glob("*.png"))) > 30 or process.poll() is not None, "some are done", 240)
    cut, lost = _cut(cluster)
    mended, back = _mend(cluster)
    assert process.wait(480) == 0, cluster.head.log("batch")

    rows = batch_rows(target)
    assert len(rows) == PHOTOS
    assert {row["status"] for row in rows.values()} <= {"ok", "no_subject"}
    some, alone = tmp_path / "some", tmp_path / "alone"
    some.mkdir()
    for photo in sorted(source.iterdir())[::8]:
        shutil.copy(photo, some)
    batch[-1] = some
    done = cluster.net.hosts["two"].run(*batch, alone, *options, timeout_s=480)
    assert done.returncode == 0, done.stderr
    undisturbed = hashes_of(alone)
    assert len(undisturbed) > PHOTOS // 10
    assert undisturbed.items() <= hashes_of(target).items()
    shares = Counter(row["node"] for row in rows.values())
    assert len(shares) >= 3, shares
    TABLE.append(("batch", lost - cut, back - mended, f"{PHOTOS} photos, 0 lost, 0 twice"))


def test_a_training_goes_on_where_there_are_hosts(cluster: Cluster, tmp_path: Path) -> None:
    """When the host of one worker is cut off, the others go on from the newest checkpoint without it."""
    data = write_pairs(tmp_path / "data", 44, side_px=64)
    run_dir = tmp_path / "runs" / "hurt"
    # A worker takes more than half of a host, so that each host has one of the three.
    settings = [*TINY, "--workers=3", "--batch-size=6", "--epochs=30", "--set=cpus_per_worker=3"]
    settings += ["--set=tracking_uri=none", "--set=min_workers=2"]
    where = ["--data", data, "--save-dir", tmp_path / "runs", "--name", "hurt"]
    address = ["--address", f"{cluster.head.address}:6379"]
    process = cluster.head.start(sys.executable, "-m", "pipelines.train", *where, *settings, *address, log="training")

    def steps() -> int:
        written = [path.parent.name for path in run_dir.glob("checkpoint_*/sha256sums")]
        return max((int(name.split("_")[1]) for name in written), default=0)

    wait_until(lambda: steps() >= 6 or process.poll() is not None, "some steps are done", 240)
    assert process.poll() is None, cluster.head.log("training")
    cut, lost = _cut(cluster)
    before = steps()
    wait_until(lambda: steps() > before + 2 or process.poll() is not None, "it goes on", 300)
    resumed = time.monotonic()
    mended, back = _mend(cluster)
    assert process.wait(300) == 0, cluster.head.log("training")
    assert steps() >= before + 2
    TABLE.append(("training", lost - cut, back - mended, f"goes on {resumed - cut:.0f} s after the cut"))


def test_what_does_not_fit_is_told_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """A training that wants GPUs which no host has ends with an error instead of waiting for them."""
    data = write_pairs(tmp_path / "data", 24, side_px=64)
    words = ["--data", data, *TINY, "--set=gpus_per_worker=1", "--save-dir", tmp_path]
    address = ["--address", f"{cluster.head.address}:6379"]
    done = cluster.head.run(sys.executable, "-m", "pipelines.train", *words, *address)
    assert done.returncode == 2, done.stderr
    assert "0 GPUs on 3 machines" in done.stderr


def test_the_endpoint_keeps_answering(cluster: Cluster, tmp_path: Path) -> None:
    """A client that asks the next host gets every photo while one host is cut off and when it is back."""
    plan = yaml.safe_load((SCRIPTS / "remover.yaml").read_text())
    for entry in plan["applications"][0]["deployments"]:
        entry["ray_actor_options"] = {"num_cpus": 0.5}
        if entry["name"] == "Segmenter":
            entry["user_config"]["model"] = "u2netp"
    config = tmp_path / "remover.yaml"
    config.write_text(yaml.safe_dump(plan))
    serve = Path(sys.executable).with_name("serve")
    deployed = cluster.head.run(serve, "deploy", config, "-a", "http://127.0.0.1:8265")
    assert deployed.returncode == 0, deployed.stderr
    outside, photo = cluster.net.hosts["outside"], write_pairs(tmp_path / "data", 1, side_px=160) / "images" / "000.png"
    addresses = [cluster.head.address, *(worker.address for worker in cluster.workers)]
    probe = "import sys, urllib.request as u; [u.urlopen(f'http://{a}:8000/ready', timeout=5) for a in sys.argv[1:]]"
    ready = lambda: outside.run(sys.executable, "-c", probe, *addresses).returncode == 0  # noqa: E731
    wait_until(ready, "the endpoint is ready", 180)

    client = outside.start(sys.executable, "-c", CLIENT, photo, *addresses, log="client")
    answers = lambda: [json.loads(line) for line in outside.log("client").splitlines()]  # noqa: E731
    wait_until(lambda: len(answers()) >= 5, "answers", 60)
    cut, lost = _cut(cluster)
    mended, back = _mend(cluster)
    # Serve has proxies only where it has replicas, so the host that is back need not answer by itself.
    wait_until(lambda: answers()[-1]["begun"] > back + 5, "answers afterwards", 60)
    client.terminate()
    client.wait(20)

    told = answers()
    assert {answer["status"] for answer in told} == {200}
    slowest = max(answer["seconds"] for answer in told)
    again = sum(answer["tries"] > 1 for answer in told)
    meanwhile = f"{len(told)} of {len(told)} answered, {again} after a retry, slowest {slowest:.0f} s"
    TABLE.append(("endpoint", lost - cut, back - mended, meanwhile))


@pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v nft"], capture_output=True, check=False).returncode != 0,
    reason="nftables is not installed",
)
def test_others_reach_the_api_alone(cluster: Cluster) -> None:
    """Behind the firewall a scan of all ports from elsewhere finds the API's, the hosts reach each other as before."""
    assert cluster.net.hosts["outside"].address not in cluster.alive()
    outside, (two, _) = cluster.net.hosts["outside"], cluster.workers
    open_before = cluster.net.hosts["outside"].python(SCAN, cluster.head.address).split()
    assert "6379" in open_before  # the scan does find what is open
    members = [cluster.head, *cluster.workers]
    for member in members:
        done = member.run(SCRIPTS / "firewall", "up", *(one.address for one in members))
        assert done.returncode == 0, done.stderr
    try:
        for member in members:
            # Serve listens on the head, and on others where it has replicas.
            found = outside.python(SCAN, member.address).split()
            assert found == ["8000"] if member is cluster.head else set(found) <= {"8000"}, (member.name, found)
        assert "6379" in two.python(SCAN, cluster.head.address).split()
    finally:
        for member in members:
            member.run(SCRIPTS / "firewall", "down")


def test_jobs_are_taken_with_the_token_alone(cluster: Cluster) -> None:
    """The Jobs API answers 401 without the token and 200 with it."""
    token = cluster.head.environment["RAY_AUTH_TOKEN_PATH"]
    assert cluster.head.python(STATUS).strip() == "401"
    assert cluster.head.python(STATUS, token).strip() == "200"
