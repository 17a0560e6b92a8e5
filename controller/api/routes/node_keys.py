"""Routes about the keys of nodes: which were shown, and which are believed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.access.roles import Identity
from controller.access.store import By
from controller.api.access import ADMIN, READ, Caller
from controller.api.answers.base import ListAnswer
from controller.api.answers.keys import (
    NodeKeyAnswer,
)
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, NodeName
from controller.api.problem_types import AMBIGUOUS, KEY_STATE, UNKNOWN, may_answer
from controller.db import lookup
from controller.db.key_models import NodeKey
from controller.db.models import Node
from controller.trust import node_rotation, store
from controller.workqueue.priorities import Priority

_NOBODY: Final = ActorAndReason()
KeyName = Annotated[str, Path(max_length=64, description="id of a key: 16 hexadecimal digits")]

KeyOrText = Annotated[
    str,
    Path(
        max_length=64,
        description="id of a key that the node's worker has shown, or any public key: 43 characters of "
        "base64url",
    ),
]


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["keys"])
    database = context.database

    def decided() -> None:
        """Let this process know at once; others read the keys every few seconds."""
        if context.keys is not None:
            context.keys.look()

    @router.get("/node-keys", responses=may_answer(UNKNOWN, AMBIGUOUS), dependencies=[READ])
    def list_node_keys(
        node: Annotated[
            str | None, Query(max_length=255, description="id, unique id prefix or hostname")
        ] = None,
    ) -> ListAnswer[NodeKeyAnswer]:
        """List the keys that the workers of nodes have shown, and what became of each."""
        with database.read() as session:
            found = lookup.maybe_node(session, node)
            rows = store.node_keys(session, None if found is None else found.id)
            return ListAnswer(items=_answers(session, rows), next=None)

    @router.post(
        "/nodes/{node}/keys/{key}/trust",
        responses=may_answer(UNKNOWN, AMBIGUOUS, KEY_STATE),
        dependencies=[ADMIN],
    )
    def trust_key(
        caller: Caller, node: NodeName, key: KeyOrText, body: ActorAndReason = _NOBODY
    ) -> NodeKeyAnswer:
        """Believe a key of the node, in place of those before."""
        with database.write() as session:
            row = store.trust(session, lookup.find_node(session, node), key, _by(caller, body))
            (answer,) = _answers(session, [row])
        decided()
        return answer

    @router.post(
        "/nodes/{node}/keys/{key}/revoke",
        responses=may_answer(UNKNOWN, AMBIGUOUS),
        dependencies=[ADMIN],
    )
    def revoke_key(
        caller: Caller, node: NodeName, key: KeyName, body: ActorAndReason = _NOBODY
    ) -> ListAnswer[NodeKeyAnswer]:
        """Believe a key of a node no more."""
        return revoke(node, key, _by(caller, body))

    @router.post(
        "/nodes/{node}/keys/revoke", responses=may_answer(UNKNOWN, AMBIGUOUS), dependencies=[ADMIN]
    )
    def revoke_keys(
        caller: Caller, node: NodeName, body: ActorAndReason = _NOBODY
    ) -> ListAnswer[NodeKeyAnswer]:
        """Believe no key of a node any more."""
        return revoke(node, None, _by(caller, body))

    @router.post(
        "/nodes/{node}/keys/rotate",
        responses=may_answer(UNKNOWN, AMBIGUOUS, KEY_STATE),
        dependencies=[ADMIN],
    )
    def rotate_key(caller: Caller, node: NodeName, body: ActorAndReason = _NOBODY) -> NodeKeyAnswer:
        """Ask the node's worker to replace its key; return the present one. Asked again, nothing changes."""
        with database.write() as session:
            found = lookup.find_node(session, node)
            row = node_rotation.ask(session, found, body.reason, _by(caller, body))
            (answer,) = _answers(session, [row])
        context.notify(Priority.MANUAL)
        return answer

    @router.post(
        "/nodes/{node}/keys/rotate/withdraw",
        responses=may_answer(UNKNOWN, AMBIGUOUS, KEY_STATE),
        dependencies=[ADMIN],
    )
    def withdraw_rotation(
        caller: Caller, node: NodeName, body: ActorAndReason = _NOBODY
    ) -> NodeKeyAnswer:
        """Ask the node's worker no more to replace its key; return that key."""
        with database.write() as session:
            found = lookup.find_node(session, node)
            row = node_rotation.withdraw(session, found, body.reason, _by(caller, body))
            (answer,) = _answers(session, [row])
        return answer

    def revoke(node: str, key: str | None, by: By) -> ListAnswer[NodeKeyAnswer]:
        with database.write() as session:
            rows = store.revoke(session, lookup.find_node(session, node), key, by)
            answer = ListAnswer[NodeKeyAnswer](items=_answers(session, rows), next=None)
        decided()
        return answer

    return router


def _answers(session: Session, rows: Sequence[NodeKey]) -> list[NodeKeyAnswer]:
    query = select(Node.id, Node.hostname).where(Node.id.in_({row.node_id for row in rows}))
    names = {row.id: row.hostname for row in session.execute(query)}
    return [NodeKeyAnswer.from_row(row, node_name=names.get(row.node_id)) for row in rows]


def _by(caller: Identity, body: ActorAndReason) -> By:
    return By(caller.name, body.claimed_name, datetime.now(UTC))
