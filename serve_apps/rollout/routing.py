"""Which part a request plays. Its id alone decides: every Ingress decides alike, and a retry goes the same way."""

from __future__ import annotations

import hashlib

from cutray.errors import ConfigError
from serve_apps.rollout.records import Plan, Role, Ticket

_BYTES = 8


def ticket_for(plan: Plan, request_id: str) -> Ticket:
    """Give a request its part.

    Args:
        plan: Of the roll-out.
        request_id: The request's id; the same one always gets the same part in a roll-out.
    """
    place = place_of(plan.rollout_id, request_id)
    if place < plan.canary:
        role = Role.CANARY
    elif place < plan.canary + plan.shadow:
        role = Role.SHADOW
    else:
        role = Role.CHAMPION
    return Ticket(plan.rollout_id, role, plan.limit_s)


def place_of(rollout_id: str, request_id: str) -> float:
    """Return a place in [0, 1) that depends on nothing else; each roll-out shuffles the requests anew."""
    digest = hashlib.sha256(f"{rollout_id}:{request_id}".encode()).digest()
    return int.from_bytes(digest[:_BYTES], "big") / (1 << 8 * _BYTES)


def parse_share(text: str) -> float:
    """Read a share: ``10%`` or ``0.1``.

    Raises:
        ConfigError: It is no number above 0 and at most 1.
    """
    bare = text.strip()
    try:
        share = float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(
            got=f"the share {text!r}", allowed="above 0 % and at most 100 %, as 10% or 0.1", fix="correct it"
        )
    return share
