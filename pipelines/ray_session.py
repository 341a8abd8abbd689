"""Starts or joins Ray for the length of a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cutray.errors import ConfigError, MissingExtraError


@contextmanager
def ray_session(address: str | None, num_cpus: int, store_bytes: int, extra: str) -> Iterator[None]:
    """Have a Ray cluster for the length of a job.

    Args:
        address: Cluster to join (auto, or HOST:PORT); None starts one on this machine.
        num_cpus: Processors of one that is started. Book-keeping, not pinning: give room to spare.
        store_bytes: Size of its object store.
        extra: Extra of the package that brings Ray.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The cluster cannot be reached.
    """
    # All have to be set before Ray is imported. The third keeps Ray's own lines out of ours.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray makes its workers give way; here they are the point
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(got="Ray is not installed", fix=f"run `pip install 'cutray[{extra}]'`") from error
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "address": address or "local"}
    if address is None:
        options |= {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": store_bytes}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            got=f"no Ray cluster at {address!r}: {error}", fix="check --address, or leave it out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
