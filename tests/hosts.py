"""Hosts of a cluster as namespaces of this machine: own address, processes, shared memory, and a cable to pull."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NETWORK = "10.77.0"
# The first process of a host: it buries those whose parents have ended, and all others end with it.
_FIRST = """
mount -t tmpfs -o size=2g shm /dev/shm && mkdir -p /tmp/ray && mount --bind "$1" /tmp/ray && hostname "$2"
ip link set lo up; echo ready; while sleep 1; do :; done
"""


def why_not() -> str:
    """Return why this machine cannot have hosts of this kind, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "unshare", "nsenter") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not installed (iproute2, util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "name", "b", "type", "bridge"], capture_output=True
    )
    return "" if tried.returncode == 0 else f"no bridge: {tried.stderr.decode().strip()}"


class Host:
    """One host: processes that are started here see its network, processes and shared memory alone."""

    def __init__(self, name: str, address: str, folder: Path, environment: dict[str, str]) -> None:
        """Start its first process."""
        self.name, self.address, self.folder = name, address, folder
        self.environment = environment
        (folder / "ray").mkdir(parents=True)
        spaces = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self._first = subprocess.Popen(
            [*spaces, "sh", "-c", _FIRST, "sh", str(folder / "ray"), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._first.stdout is not None
        assert self._first.stdout.readline().strip() == "ready", f"the host {name} does not start"
        (self.pid,) = map(int, Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split())

    def command(self, words: Sequence[object]) -> list[str]:
        """Return the command line that runs another one on this host."""
        inside = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--uts", "--ipc", "--"]
        return [*inside, *map(str, words)]

    def start(self, *words: object, log: str, **variables: str) -> subprocess.Popen[str]:
        """Start a program whose output goes to a file in the host's folder."""
        with (self.folder / f"{log}.log").open("a") as sink:
            return subprocess.Popen(
                self.command(words), stdout=sink, stderr=sink, text=True, env={**self.environment, **variables}
            )

    def run(self, *words: object, timeout_s: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self.command(words),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**self.environment, **variables},
            check=False,
        )

    def python(self, code: str, *words: object, timeout_s: float = 120) -> str:
        """Run Python code on this host and return what it prints."""
        done = self.run(sys.executable, "-c", code, *words, timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, name: str) -> str:
        """Return what a program has said so far."""
        return (self.folder / f"{name}.log").read_text()

    def end(self) -> None:
        """End the first process, and all others with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._first.wait(30)


class Network:
    """A switch with a cable to each host. It lies in a namespace of its own, so that this machine sees none of it."""

    def __init__(self, folder: Path, environment: dict[str, str], names: Sequence[str]) -> None:
        """Set up the hosts, with addresses in the order of their names."""
        self.hosts: dict[str, Host] = {}
        self._switch = Host("switch", "", folder / "switch", environment)
        try:
            self._ip(self._switch, "link add name bridge type bridge", "link set bridge up")
            for number, name in enumerate(names, 1):
                host = Host(name, f"{NETWORK}.{number}", folder / name, environment)
                self.hosts[name] = host
                self._plug_in(host)
        except BaseException:
            self.end()
            raise

    def cut(self, name: str) -> float:
        """Pull a host's cable; returns the moment."""
        self._ip(self._switch, f"link set to-{name} down")
        return time.monotonic()

    def mend(self, name: str) -> float:
        """Put a host's cable back; returns the moment."""
        self._ip(self._switch, f"link set to-{name} up")
        return time.monotonic()

    def end(self) -> None:
        """End all hosts; the network goes with them."""
        for host in [*self.hosts.values(), self._switch]:
            host.end()

    def _plug_in(self, host: Host) -> None:
        """Lay a cable from the switch to a host."""
        plug = f"to-{host.name}"
        self._ip(
            self._switch,
            f"link add name {plug} type veth peer name eth0 netns {host.pid}",
            f"link set {plug} master bridge up",
        )
        self._ip(host, f"addr add {host.address}/24 dev eth0", "link set eth0 up")

    @staticmethod
    def _ip(host: Host, *lines: str) -> None:
        """Run lines of ``ip`` on a host."""
        for line in lines:
            inside = ["nsenter", "--target", str(host.pid), "--net", "ip", *line.split()]
            subprocess.run(inside, check=True, capture_output=True, timeout=20)


@contextmanager
def network(folder: Path, names: Sequence[str], **variables: str) -> Iterator[Network]:
    """Have hosts until the block ends, with a token for Ray that all of them know."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": path, "RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_MODE": "token"}
    environment |= {"PYTHON": sys.executable, "RAY_USAGE_STATS_ENABLED": "0", **variables}
    made = Network(folder, environment, names)
    try:
        yield made
    finally:
        made.end()


def wait_until(condition: Any, what: str, timeout_s: float, every_s: float = 0.25) -> Any:
    """Ask again and again until the answer is true, and return it."""
    until = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < until, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(every_s)
    return answer


# Tells each change of who is alive; the clock is the same in all namespaces.
_WATCH = """
import json, time, ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
told = None
while True:
    nodes = sorted((node["NodeID"], node["NodeManagerAddress"], node["Alive"]) for node in ray.nodes())
    if nodes != told:
        told = nodes
        print(json.dumps({"moment": time.monotonic(), "nodes": nodes}), flush=True)
    time.sleep(0.25)
"""


class Cluster:
    """Ray on the hosts of a network, started by the project's own scripts."""

    def __init__(self, net: Network, head: str, workers: Sequence[str]) -> None:
        """Start the head, then the workers."""
        self.net, self.head = net, net.hosts[head]
        self.workers = [net.hosts[name] for name in workers]
        scripts, shared = ROOT / "cluster" / "hosts", ("--cpus", 4, "--store-gib", 0.2)
        self._start(self.head, [scripts / "start-head", self.head.address, *shared], "the head is up")
        for worker in self.workers:
            self._start(worker, [scripts / "start-worker", self.head.address, *shared], "has joined")
        self.head.start(sys.executable, "-c", _WATCH, log="nodes")
        wait_until(lambda: len(self.alive()) == 1 + len(workers), "all hosts are seen", 60)

    def alive(self) -> set[str]:
        """Return the addresses of the hosts that Ray counts on now."""
        news = self._news()
        return {address for _, address, alive in news[-1]["nodes"] if alive} if news else set()

    def changed(self, address: str, alive: bool, since: float) -> float | None:
        """Return when a host was first seen alive, or not alive, after a moment; None if it was not yet."""
        for news in self._news():
            if news["moment"] >= since and alive is any(up for _, at, up in news["nodes"] if at == address):
                return float(news["moment"])
        return None

    def addresses(self) -> dict[str, str]:
        """Return the address of each node by its id, those that are dead included."""
        return {node: address for node, address, _ in self._news()[-1]["nodes"]}

    def _news(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.head.log("nodes").splitlines() if line.startswith("{")]

    @staticmethod
    def _start(host: Host, command: Sequence[object], sign: str) -> None:
        process = host.start(*command, log="ray")
        wait_until(lambda: sign in host.log("ray") or process.poll() is not None, f"{host.name} is up", 120)
        assert process.poll() is None, host.log("ray")
