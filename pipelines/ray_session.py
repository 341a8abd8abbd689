"""Starts or joins Ray for the length of a job, and says what there is before anything waits for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cutray.console.ray_address import check_reachable
from cutray.console.ray_setup import installed_code_config, local_ray_options, set_local_token, told_when_too_busy
from cutray.errors import ConfigError, MissingExtraError
from cutray.privacy import disable_ray_reporter


@contextmanager
def ray_session(
    address: str | None, num_cpus: int, store_bytes: int, extra: str, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Have a Ray cluster for the length of a job.

    Args:
        address: Cluster to join, from ``resolve_address``; None starts one on this machine.
        num_cpus: Processors of one that is started. Book-keeping, not pinning: give room to spare.
        store_bytes: Size of its object store.
        extra: Extra of the package that brings Ray.
        variables: What else Ray is to read from the environment; what is set there already stays.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: The cluster cannot be reached, or no folder for its temporary files is usable.
        CutrayError: Ray gave up starting, because the machine is too busy.
    """
    # All have to be set before Ray is imported. The last one keeps Ray's own lines out of ours.
    common = {"RAY_AUTH_MODE": "token", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    for name, value in {**common, **(variables or {})}.items():
        os.environ.setdefault(name, value)
    if address is None:
        set_local_token()
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(got="Ray is not installed", fix=f"run `pip install 'cutray[{extra}]'`") from error
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "address": address or "local"}
    if address is None:
        options |= {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": store_bytes}
        options |= local_ray_options()
    else:
        check_reachable(address)
        options["job_config"] = installed_code_config()
    disable_ray_reporter()
    try:
        with told_when_too_busy():
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            got=f"no Ray cluster at {address!r}: {error}", fix="check --address, or leave it out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def require_gpus_here(gpus: float) -> None:
    """Refuse what this machine does not have, before Ray is started: whoever waits for it would wait for ever.

    Args:
        gpus: GPUs that are wanted at a time.

    Raises:
        ConfigError: There are fewer.
    """
    from cutray.engines.hardware import list_cuda_gpus

    names = list_cuda_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if gpus > len(names):
        raise ConfigError(
            got=f"{gpus:g} GPUs are wanted",
            allowed=f"what this machine has: {', '.join(names) or 'no GPU'}",
            fix="lower workers or gpus_per_worker, or join a cluster with --address",
        )


def room_for(cpus: float, gpus: float) -> int:
    """Return how often something fits on the cluster that this process is connected to.

    Args:
        cpus: Processors of Ray's book-keeping that it takes.
        gpus: GPUs that it takes.

    Raises:
        ConfigError: It never does, not even when the cluster has grown as far as it may.
    """
    import ray
    from ray._private.state import state

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    there = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    # A cluster that grows when something waits may have no worker at all now; its configuration knows how many.
    most = state.get_max_resources_from_cluster_config() or {}
    there = {kind: max(amount, most.get(kind, 0.0)) for kind, amount in there.items()}
    times = min(int(there[kind] // need) for kind, need in (("CPU", cpus), ("GPU", gpus)) if need)
    if not times:
        raise ConfigError(
            got=f"{cpus:g} processors and {gpus:g} GPUs of Ray's book-keeping are wanted",
            allowed=f"what is there: {there['CPU']:g} processors and {there['GPU']:g} GPUs on {len(nodes)} machines",
            fix="lower workers, cpus_per_worker or gpus_per_worker, or join a larger cluster with --address",
        )
    return times
