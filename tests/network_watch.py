"""Watches what a program and all its children ask of the network: names to resolve, and addresses elsewhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cutray.privacy import OPT_OUT

# Python imports this module at the start of each process. The interpreter itself reports to the hook, so no library
# can go past it with functions of its own.
_HOOK = """
import os, socket, sys

def _watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        # Connecting a datagram socket sends nothing: Ray learns its own address in that way.
        silent = event == "socket.connect" and args[0].type & 0xF == socket.SOCK_DGRAM
        if silent or not isinstance(args[1], tuple):
            return
        host = args[1][0]
    else:
        return
    host = os.fsdecode(host or "")
    if host not in os.environ["NETWORK_WATCH_OWN"].split() and not host.startswith(("127.", "::")):
        with open(os.environ["NETWORK_WATCH_LOG"], "a") as log:
            print(event, host, " ".join(sys.argv[:3]), file=log)

sys.addaudithook(_watch)
"""


def run_watched(
    command: Sequence[str], folder: Path, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a program in a home of its own.

    Args:
        command: The program.
        folder: An existing folder: it gets ``home``, and the program works in ``work``.
        variables: Environment variables besides those of this process.

    Returns:
        What the program printed, and one line for each question to the network.
    """
    environment = watched_environment(folder) | variables
    command = [sys.executable, *command]
    done = subprocess.run(
        command, cwd=folder / "work", env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    return done, questions(folder)


def watched_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a watched program: no switch against usage statistics is set from outside."""
    for name in ("home", "work", "hook"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(_HOOK)
    # Continuous integration counts as a wish not to be counted; here it must not hide what users would send.
    hide = {"CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "CUTRAY_HOME", "CUTRAY_OFFLINE", "DO_NOT_TRACK", *OPT_OUT}
    kept = {name: value for name, value in os.environ.items() if name not in hide and not name.startswith("XDG_")}
    return kept | {
        "HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join([str(folder / "hook"), *sys.path]),
        "NETWORK_WATCH_LOG": str(folder / "questions"),
        "NETWORK_WATCH_OWN": " ".join(["localhost", "0.0.0.0", socket.gethostname(), *_own_addresses()]),
    }


def questions(folder: Path) -> list[str]:
    """Return what was asked of the network so far."""
    log = folder / "questions"
    return log.read_text().splitlines() if log.exists() else []


def _own_addresses() -> list[str]:
    """Return the addresses of this machine, under which the processes of Ray find each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 53))  # sends nothing
        except OSError:
            return []
        return [probe.getsockname()[0]]
