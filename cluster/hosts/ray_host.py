"""Runs Ray on one host of a cluster in the foreground, until a signal ends it; ``start-head`` and ``start-worker``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("remover.yaml")
GCS_PORT, DASHBOARD_PORT = 6379, 8265
# Every port that Ray listens on is stated, so that rules of a firewall can name them. Workers must stay below the
# ports that the system hands out to those who ask for any.
PORTS = {
    "node-manager-port": 6381,
    "object-manager-port": 6382,
    "runtime-env-agent-port": 6383,
    "dashboard-agent-grpc-port": 6384,
    "dashboard-agent-listen-port": 6385,
    "metrics-export-port": 6386,
    "min-worker-port": 20000,
    "max-worker-port": 20999,
}
_CONNECT_S, _START_S, _DRAIN_S, _RETRY_S = 5.0, 60.0, 10.0, 2.0
_SHORTEST_TOKEN = 32
_GET_ADDRESS = 0x8915  # SIOCGIFADDR


class HostError(Exception):
    """The host cannot be started; the message says what to do."""


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parse()
    try:
        environment = _environment(options)
        own = options.address if options.role == "head" else _way_to(options.head, options.address)
        _require_own(own)
        # Without these, workers that train together announce what their host's name stands for: often the loopback.
        environment = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), _interface_of(own)) | environment
        ray = RayProcesses(environment)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ray.ask_to_end)
        if options.role == "head":
            return _run_head(ray, own, options)
        return _run_worker(ray, own, options)
    except HostError as error:
        print(f"start-{options.role}: {error}", file=sys.stderr)
        return 1


def _run_head(ray: RayProcesses, own: str, options: argparse.Namespace) -> int:
    """Be the head until a signal comes, or until it fails: then its cluster is gone, and a supervisor starts anew."""
    dashboard = ["--include-dashboard=true", f"--dashboard-host={options.dashboard_host}"]
    ray.start(
        ["--head", f"--port={GCS_PORT}", *dashboard, f"--dashboard-port={DASHBOARD_PORT}", *_shared(own, options)]
    )
    _say(f"the head is up; start-worker {own} on the other hosts adds them")
    _say(f"jobs and dashboard: http://{options.dashboard_host}:{DASHBOARD_PORT}, with the token")
    return ray.wait()


def _run_worker(ray: RayProcesses, own: str, options: argparse.Namespace) -> int:
    """Be a worker until a signal comes; a head that was lost is joined again as soon as it answers."""
    arguments = [f"--address={options.head}:{GCS_PORT}", *_shared(own, options)]
    ray.start(arguments)
    while True:
        _say(f"{own} has joined {options.head}")
        if ray.wait() == 0:
            return 0
        _say(f"{own} has lost {options.head} and tries to join it again")
        while not ray.ended:
            try:
                _way_to(options.head, None)
                ray.start(arguments)
                break
            except HostError:
                time.sleep(_RETRY_S)
        if ray.ended:
            return 0


class RayProcesses:
    """The processes of ``ray start`` on this host, and nobody else's."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Start nothing yet."""
        self.ended = False
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._told: deque[str] = deque(maxlen=30)
        self._up = threading.Event()

    def ask_to_end(self, _number: int, _frame: FrameType | None) -> None:
        """Note that a signal has come."""
        self.ended = True

    def start(self, arguments: list[str]) -> None:
        """Start Ray and return when it runs.

        Raises:
            HostError: It does not come up; the message ends with what it said.
        """
        self._told.clear()
        self._up.clear()
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), "start", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl+C is for us to handle, in order
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        until = time.monotonic() + _START_S
        while not self._up.wait(0.1):
            if self.ended or self._process.poll() is not None or time.monotonic() > until:
                self._end()
                if self.ended:
                    return
                raise HostError("Ray did not start. Its last words:\n" + "\n".join(self._told))

    def wait(self) -> int:
        """Wait for a signal or for the end of Ray; 0 for a signal, otherwise 1. Nothing of it runs afterwards."""
        assert self._process is not None
        while not self.ended and self._process.poll() is None:
            time.sleep(0.2)
        if not self.ended and self._told:
            print("\n".join(self._told), file=sys.stderr)
        self._end()
        return 0 if self.ended else 1

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Keep the last lines of what Ray says, and notice when it is up."""
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                self._told.append(line.rstrip())
            if "Ray runtime started" in line:
                self._up.set()

    def _end(self) -> None:
        """Ask the processes to end, and after a while make them."""
        if self._process is None:
            return
        # Those below first: asked alone, `ray start` leaves some of them behind.
        ours = [*_descendants(self._process.pid), self._process.pid]
        for number, patience_s in ((signal.SIGTERM, _DRAIN_S), (signal.SIGKILL, 5.0)):
            _signal(ours, number)
            until = time.monotonic() + patience_s
            while time.monotonic() < until and any(map(_runs, ours)):
                self._process.poll()
                time.sleep(0.1)
        self._process.wait()


def _descendants(pid: int) -> list[int]:
    """Return the processes below one."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listed.read_text().split()]
        except OSError:  # it has just ended
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _runs(pid: int) -> bool:
    """Whether a process is there and does more than wait to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(pids: list[int], number: int) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        if _runs(pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def _shared(own: str, options: argparse.Namespace) -> list[str]:
    """Return the arguments of ``ray start`` that all hosts have."""
    arguments = [f"--{name}={port}" for name, port in PORTS.items()]
    arguments += [f"--node-ip-address={own}", "--block", "--disable-usage-stats"]
    arguments.append(f"--object-store-memory={int(options.store_gib * (1 << 30))}")
    for name in ("cpus", "gpus"):
        if (amount := getattr(options, name)) is not None:
            arguments.append(f"--num-{name}={amount}")
    return arguments


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the variables that Ray's processes need from their start.

    Raises:
        HostError: There is no token, or others may read it.
    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        content, rights = token.read_text().strip(), token.stat().st_mode & 0o777
    except OSError as error:
        raise HostError(
            f"no token at {token} ({error.strerror}). Make one with `(umask 077; openssl rand -hex 32 > {token})` and "
            "copy it to all hosts, or set RAY_AUTH_TOKEN_PATH."
        ) from error
    if len(content) < _SHORTEST_TOKEN:
        raise HostError(f"the token in {token} has {len(content)} characters; use at least {_SHORTEST_TOKEN}")
    if rights & 0o077:
        raise HostError(f"others may read {token} (its rights are {rights:o}). Mend it with `chmod 600 {token}`.")
    path = [str(ROOT / "platform"), str(ROOT)]
    sys.path[:0] = path
    import yaml

    from cutray.privacy import OPT_OUT
    from serve_apps.config_file import application_args, proxy_variables

    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    return environment | {
        **proxy_variables(application_args(yaml.safe_load(options.config.read_text()))),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token.resolve()),
        **OPT_OUT,
        "RAY_SERVE_LOG_TO_STDERR": "0",
        # Ray asks each host every two seconds and waits for as long; by default a host that is cut off counts as alive
        # for 65 s, and all that time photos wait for it.
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "5",
        "RAY_worker_niceness": "0",  # Ray makes its workers give way to everything else; here they are the point
        "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def _way_to(head: str, own: str | None) -> str:
    """Return the address of this host that the head sees.

    Raises:
        HostError: Nobody answers there.
    """
    try:
        with socket.create_connection((head, GCS_PORT), timeout=_CONNECT_S) as connection:
            seen: str = connection.getsockname()[0]
            return own or seen
    except OSError as error:
        raise HostError(
            f"no head answers at {head}:{GCS_PORT} ({error.strerror or error}). Is start-head running there, is the "
            "address the one it was given, and may this host reach that port?"
        ) from error


def _require_own(address: str) -> None:
    """Make sure that an address is this host's.

    Raises:
        HostError: It is not.
    """
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise HostError(
            f"{address} is not an address of this host ({error.strerror or error}). `ip -brief address` lists them; "
            "choose the one that the other hosts reach it at."
        ) from error


def _interface_of(address: str) -> str:
    """Return the network interface that has an IPv4 address of this host; for others, those that are not the loopback.

    Source: Linux, netdevice(7), SIOCGIFADDR.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            with contextlib.suppress(OSError):  # an interface without an address
                if socket.inet_ntoa(fcntl.ioctl(probe, _GET_ADDRESS, request)[20:24]) == address:
                    return name
    return ",".join(name for _, name in socket.if_nameindex() if name != "lo")


def _say(line: str) -> None:
    """Tell a person."""
    print(line, flush=True)


def _parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    head = roles.add_parser("head", prog="start-head", description="Start the first host of a cluster.")
    head.add_argument("address", metavar="ADDRESS", help="address of this host that the others reach it at")
    head.add_argument("--dashboard-host", default="127.0.0.1", help="where jobs are taken (%(default)s)")
    worker = roles.add_parser("worker", prog="start-worker", description="Add this host to a cluster.")
    worker.add_argument("head", metavar="HEAD", help="address that start-head was given")
    worker.add_argument("--address", help="address of this host, if not the one that leads to the head")
    for role in (head, worker):
        role.add_argument("--cpus", type=int, help="processors to offer (all that there are)")
        role.add_argument("--gpus", type=int, help="GPUs to offer (all that there are)")
        role.add_argument("--store-gib", type=float, default=1.0, help="GiB of the object store (%(default)s)")
        role.add_argument("--config", type=Path, default=CONFIG, help="Serve's YAML, for the limits of its proxies")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
