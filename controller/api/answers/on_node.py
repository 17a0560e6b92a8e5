"""What answers about a node have in common: its id, its name, and whether other nodes have the name."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import Field
from sqlalchemy.orm import Session

from controller.api.answers.base import Answer
from controller.views import queries


class OnNode(Answer):
    """An answer about something on a node."""

    node_name_is_shared: bool = Field(
        False,
        description="whether other nodes have this hostname, so that only the id tells them apart",
    )


Item = TypeVar("Item", bound=OnNode)


def with_shared_names(
    session: Session, answers: Sequence[Item], *, history: bool = False
) -> Sequence[Item]:
    """Set `node_name_is_shared` of answers, which have `node_id` and `node_name`; return them.

    Args:
        history: they may be about nodes that are gone, whose names count, too.
    """
    ids: dict[str, set[str]] = {}
    for answer in answers:
        name, id_ = getattr(answer, "node_name", None), getattr(answer, "node_id", None)
        if name is not None and id_ is not None:
            ids.setdefault(name, set()).add(id_)
    shared = queries.shared_hostnames(session, ids, gone=history)
    # The record outlives the rows of nodes.
    shared |= {name for name, found in ids.items() if len(found) > 1}
    for answer in answers:
        answer.node_name_is_shared = getattr(answer, "node_name", None) in shared
    return answers
