"""The batch on a cluster of several nodes, which are processes of this machine here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batches import batch_environment, hashes_of, run_batch_command, write_photos

pytest.importorskip("ray")

pytestmark = pytest.mark.model
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


@pytest.mark.parametrize("nodes", [2, 3])
def test_nodes_share_the_work(tmp_path: Path, nodes: int) -> None:
    """On several nodes every photo is done once and the results are those of one machine."""
    photos, alone, together = tmp_path / "photos", tmp_path / "alone", tmp_path / "together"
    write_photos(photos, 24)
    assert run_batch_command(photos, alone)[0] == 0
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
        assert summary["done"] == 24
        assert hashes_of(together) == hashes_of(alone)
    finally:
        cluster.communicate(timeout=60)
