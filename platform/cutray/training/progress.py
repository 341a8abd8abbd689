"""An actor that collects what a person wants to see while a run goes on."""

from __future__ import annotations

from typing import Any


class ProgressActor:
    """Hold the latest figures of a run. Workers send them without waiting, the launcher reads them."""

    def __init__(self) -> None:
        """Begin empty."""
        self._latest: dict[str, Any] = {}
        self._warnings: list[str] = []

    def update(self, latest: dict[str, Any]) -> None:
        """Take the latest figures; others that are known stay, in case nobody has read them yet."""
        self._latest = {**self._latest, **latest}

    def warn(self, problems: list[str]) -> None:
        """Add warnings."""
        self._warnings += problems

    def read(self) -> tuple[dict[str, Any], list[str]]:
        """Return the latest figures, and the warnings since the last time."""
        fresh, self._warnings = self._warnings, []
        return self._latest, fresh


def start_progress_actor() -> Any:
    """Start the actor beside this process, where no lost host takes it away; it takes no processor of Ray's books."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(ProgressActor).options(scheduling_strategy=here).remote()
