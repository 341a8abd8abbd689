"""Starts or joins Ray for the length of a job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cutray.errors import ConfigError, MissingExtraError


@contextmanager
def ray_session(
    address: str | None, num_cpus: int, store_bytes: int, extra: str, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Have a Ray cluster for the length of a job.

    Args:
        address: Cluster to join (auto, or HOST:PORT); None starts one on this machine.
        num_cpus: Processors of one that is started. Book-keeping, not pinning: give room to spare.
        store_bytes: Size of its object store.
        extra: Extra of the package that brings Ray.
        variables: What else Ray is to read from the environment; what is set there already stays.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The cluster cannot be reached.
    """
    # All have to be set before Ray is imported. The last one keeps Ray's own lines out of ours.
    common = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    for name, value in {**common, **(variables or {})}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
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
