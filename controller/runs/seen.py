"""When a node's worker was seen last: by a message that came, and no later than it was signed."""

from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from contract.signing.envelope import Opened
from controller.db.models import Node

_M = TypeVar("_M", bound=BaseModel)


def note(node: Node, opened: Opened[_M], now: datetime) -> None:
    """Store that a message of the node's worker came; one that was kept back says nothing of now."""
    at, before = opened.alive_at(now), node.worker_seen_at
    # A date ahead of ours is by a clock that was put right.
    node.worker_seen_at = at if before is None or before > now else max(before, at)
