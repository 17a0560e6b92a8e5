"""Routes about the controllers' keys, and their rotation."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy.orm import Session

from contract.messages import KeyText
from contract.signing.keys import PublicKey
from controller.access.roles import Identity
from controller.access.store import By
from controller.api.access import ADMIN, READ, Caller
from controller.api.answers.base import ListAnswer
from controller.api.answers.keys import (
    ControllerKeyAnswer,
    RotationAnswer,
)
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, ParameterError
from controller.api.problem_types import KEY_STATE, may_answer
from controller.db.key_models import ControllerKey
from controller.trust import store


class NextKeyBody(ActorAndReason):
    """The controllers' next key."""

    public_key: Annotated[KeyText, Field(description="32 bytes in base64url")]


class FinishBody(ActorAndReason):
    """Whether nodes may be left behind."""

    force: Annotated[
        bool,
        Field(
            description="also if workers do not know the key: they follow by their next requests"
        ),
    ] = False
    revoke_join_tokens: Annotated[
        bool, Field(description="all of them: they name a key of before")
    ] = False


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["keys"])
    database = context.database

    def decided() -> None:
        """Let this process know at once; others read the keys every few seconds."""
        if context.keys is not None:
            context.keys.look()

    @router.get("/controller-keys", dependencies=[READ])
    def list_controller_keys() -> ListAnswer[ControllerKeyAnswer]:
        """List the controllers' keys: the one that signs, the next, and those of before."""
        with database.read() as session:
            rows = store.controller_keys(session)
            return ListAnswer(
                items=[ControllerKeyAnswer.model_validate(row) for row in rows], next=None
            )

    @router.post("/controller-keys/next", responses=may_answer(KEY_STATE), dependencies=[ADMIN])
    def announce_key(caller: Caller, body: NextKeyBody) -> RotationAnswer:
        """Make the controllers' next key known to the workers, by requests that the present one signs."""
        try:
            key = PublicKey.from_text(body.public_key)
        except ValueError as error:
            hint = "send the public key that `vxctl keys rotate` prints"
            raise ParameterError("public_key", str(error), hint) from error
        with database.write() as session:
            row = store.announce(session, key, _by(caller, body))
            answer = _rotation(session, row)
        decided()
        return answer

    @router.post("/controller-keys/finish", responses=may_answer(KEY_STATE), dependencies=[ADMIN])
    def finish_rotation(caller: Caller, body: FinishBody | None = None) -> RotationAnswer:
        """Let the next key sign, once the workers of all ready nodes know it."""
        given = body or FinishBody()
        with database.write() as session:
            row = store.finish(
                session,
                _by(caller, given),
                force=given.force,
                revoke_join_tokens=given.revoke_join_tokens,
            )
            if context.keys is not None:
                context.keys.hand_over(row)
            answer = _rotation(session, row)
        decided()
        return answer

    return router


def _rotation(session: Session, row: ControllerKey) -> RotationAnswer:
    found = ControllerKeyAnswer.model_validate(row).model_dump()
    unaware = store.unaware(session, row.id)
    return RotationAnswer(**found, lacking=list(unaware.lacking), later=list(unaware.later))


def _by(caller: Identity, body: ActorAndReason) -> By:
    return By(caller.name, body.claimed_name, datetime.now(UTC))
