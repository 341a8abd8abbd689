"""The batch on a cluster of several nodes, which are processes of this machine here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.batches import batch_environment, batch_rows, hashes_of, run_batch_command, write_photos

pytest.importorskip("ray")

pytestmark = pytest.mark.model
PHOTOS = 60
NODES = """
import json, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
for _ in range(int(sys.argv[1]) - 1):
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
cluster.wait_for_nodes()
print(json.dumps(cluster.address), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, PHOTOS)
    return folder


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("alone")
    code, _, told = run_batch_command(photos, target)
    assert code == 0, told
    return target


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_nodes_share_the_work(photos: Path, alone: Path, tmp_path: Path, nodes: int) -> None:
    """On several nodes the work is shared, every photo is done once, and the results are those of one machine."""
    together = tmp_path / "together"
    cluster = subprocess.Popen(
        [sys.executable, "-c", NODES, str(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=batch_environment(),
    )
    try:
        assert cluster.stdout is not None
        address = json.loads(cluster.stdout.readline())
        options = ("--address", address, "--cpus-per-actor", "1", "--photos-per-task", "2", "--threads", "2")
        code, summary, told = run_batch_command(photos, together, *options)
        assert code == 0, told
        assert summary["done"] == PHOTOS
        assert hashes_of(together) == hashes_of(alone)
        shares = Counter(row["node"] for row in batch_rows(together).values())
        assert len(shares) > 1, shares  # on a busy machine one may be late, but never all but one
    finally:
        cluster.communicate(timeout=600)
