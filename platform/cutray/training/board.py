"""An actor that collects what a person wants to see while a run goes on."""

from __future__ import annotations

from typing import Any


class Board:
    """Holds the latest news of a run. Workers tell it without waiting, the launcher asks it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._news: dict[str, Any] = {}
        self._warnings: list[str] = []

    def tell(self, news: dict[str, Any]) -> None:
        """Replace the news."""
        self._news = news

    def warn(self, problems: list[str]) -> None:
        """Add warnings."""
        self._warnings += problems

    def read(self) -> tuple[dict[str, Any], list[str]]:
        """Return the news, and the warnings since the last time."""
        fresh, self._warnings = self._warnings, []
        return self._news, fresh


def open_board() -> Any:
    """Start a board beside this process, where no lost host takes it away; it takes no processor of Ray's books."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
