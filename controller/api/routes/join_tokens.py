"""Routes that create, list and revoke join tokens, which vouch for the first key of a node."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from contract.signing.join import JoinToken
from contract.signing.keys import PublicKey
from controller.access.roles import Identity
from controller.access.store import By
from controller.api.access import ADMIN, Caller
from controller.api.answers.base import ListAnswer
from controller.api.answers.keys import (
    JoinTokenAnswer,
    NewJoinTokenAnswer,
)
from controller.api.context import Context
from controller.api.parameters import ActorAndReason
from controller.api.problem_types import KEY_STATE, UNKNOWN, may_answer
from controller.trust import store

_MAX_SECONDS: Final = 3650 * 86_400.0
_NOBODY: Final = ActorAndReason()


class JoinTokenBody(ActorAndReason):
    """Life of a new join token."""

    seconds: Annotated[
        float | None,
        Field(ge=1, le=_MAX_SECONDS, description="after which it expires; null: never"),
    ] = None


class JoinTokenListing(BaseModel):
    """The parameters of the list of join tokens."""

    revoked: Annotated[bool, Field(description="also the revoked ones")] = False


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["keys"])
    database = context.database

    @router.get("/join-tokens", dependencies=[ADMIN])
    def list_join_tokens(
        listing: Annotated[JoinTokenListing, Query()],
    ) -> ListAnswer[JoinTokenAnswer]:
        """List the join tokens, without their secrets, the newest first."""
        with database.read() as session:
            rows = store.join_tokens(session, revoked=listing.revoked)
            return ListAnswer(
                items=[JoinTokenAnswer.model_validate(row) for row in rows], next=None
            )

    @router.post(
        "/join-tokens", status_code=201, responses=may_answer(KEY_STATE), dependencies=[ADMIN]
    )
    def create_join_token(caller: Caller, body: JoinTokenBody | None = None) -> NewJoinTokenAnswer:
        """Create a join token; its secret is in this answer and nowhere else."""
        given = body or JoinTokenBody()
        by = _by(caller, given)
        end = None if given.seconds is None else by.at + timedelta(seconds=given.seconds)
        with database.write() as session:
            signing = PublicKey.from_text(store.signing_key(session).public_key)
            token = JoinToken.create(signing)
            row = store.create_join_token(session, token.public, by, end)
            stored = JoinTokenAnswer.model_validate(row).model_dump()
        return NewJoinTokenAnswer(**stored, token=token.text())

    @router.post("/join-tokens/{token}/revoke", responses=may_answer(UNKNOWN), dependencies=[ADMIN])
    def revoke_join_token(
        caller: Caller,
        token: Annotated[str, Path(max_length=64, description="id of a valid join token")],
        body: ActorAndReason = _NOBODY,
    ) -> JoinTokenAnswer:
        """Let a join token pin no more keys; keys that it pinned stay."""
        with database.write() as session:
            row = store.revoke_join_token(session, token, _by(caller, body))
            return JoinTokenAnswer.model_validate(row)

    return router


def _by(caller: Identity, body: ActorAndReason) -> By:
    return By(caller.name, body.claimed_name, datetime.now(UTC))
