"""Sends what concerns an edit to the Cutter that holds it; everything else goes where there is room."""

from __future__ import annotations

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, RunningReplica


class EditRouter(PowerOfTwoChoicesRequestRouter):
    """Takes the multiplexed model id of a request for the id of the replica that must answer it.

    Serve's own multiplexing learns where a model is a moment later, and then only prefers that replica.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Choose the holder of the edit; if it is lost, any replica, which says that the edit is gone.

        Args:
            candidate_replicas: All that run.
            pending_request: What is to be sent.
        """
        wanted = pending_request.metadata.multiplexed_model_id if pending_request is not None else ""
        if not wanted:
            chosen: list[list[RunningReplica]] = await super().choose_replicas(candidate_replicas, pending_request)
            return chosen
        holders = [replica for replica in candidate_replicas if replica.replica_id.unique_id == wanted]
        return [holders or candidate_replicas[:1]]
