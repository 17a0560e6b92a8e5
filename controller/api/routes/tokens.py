"""Routes that create, list and revoke API tokens, and tell callers who they are."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, Field

from controller.access import store
from controller.access.roles import Identity
from controller.access.store import By
from controller.access.tokens import NAME_PATTERN, Secret, checked_name
from controller.api.access import ADMIN, READ, Caller
from controller.api.answers.base import ListAnswer
from controller.api.answers.tokens import CallerAnswer, NewTokenAnswer, TokenAnswer
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, NotReserved
from controller.api.problem_types import NAME_TAKEN, UNKNOWN, may_answer
from controller.db.states import Role

_MAX_SECONDS: Final = 3650 * 86_400.0
_NOBODY: Final = ActorAndReason()


class TokenBody(ActorAndReason):
    """Name, role and life of a new token."""

    name: Annotated[
        str,
        Field(description="its actor in the audit trail", pattern=NAME_PATTERN),
        AfterValidator(checked_name),
        NotReserved(),
    ]
    role: Role
    seconds: Annotated[
        float | None,
        Field(ge=1, le=_MAX_SECONDS, description="after which it expires; null: never"),
    ] = None


class TokenListing(BaseModel):
    """The parameters of the list of tokens."""

    revoked: Annotated[bool, Field(description="also the revoked ones")] = False


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["tokens"])
    database = context.database

    @router.get("/whoami", dependencies=[READ])
    def get_caller(caller: Caller) -> CallerAnswer:
        """Return name and role of the caller: of the token, or of the trusted proxy's user."""
        return CallerAnswer(
            name=caller.name,
            role=caller.role,
            expires_at=caller.expires_at,
            authenticated_by="proxy" if caller.by_proxy else "token",
        )

    @router.get("/tokens", dependencies=[ADMIN])
    def list_tokens(listing: Annotated[TokenListing, Query()]) -> ListAnswer[TokenAnswer]:
        """List the tokens, without their secrets, by name."""
        with database.read() as session:
            rows = store.listed(session, revoked=listing.revoked)
            return ListAnswer(items=[TokenAnswer.model_validate(row) for row in rows], next=None)

    @router.post("/tokens", status_code=201, responses=may_answer(NAME_TAKEN), dependencies=[ADMIN])
    def create_token(caller: Caller, body: TokenBody) -> NewTokenAnswer:
        """Create a token; its secret is in this answer and nowhere else."""
        by, secret = _by(caller, body), Secret.generate()
        end = None if body.seconds is None else by.at + timedelta(seconds=body.seconds)
        with database.write() as session:
            row = store.create(
                session, secret, name=body.name, role=body.role, expires_at=end, by=by
            )
            stored = TokenAnswer.model_validate(row).model_dump()
        return NewTokenAnswer(**stored, token=secret.text)

    @router.post("/tokens/{name}/revoke", responses=may_answer(UNKNOWN), dependencies=[ADMIN])
    def revoke_token(
        caller: Caller,
        name: Annotated[str, Path(max_length=64, description="name or id of a valid token")],
        body: ActorAndReason = _NOBODY,
    ) -> TokenAnswer:
        """Revoke a token: from now on it is refused."""
        with database.write() as session:
            return TokenAnswer.model_validate(store.revoke(session, name, _by(caller, body)))

    return router


def _by(caller: Identity, body: ActorAndReason) -> By:
    return By(caller.name, body.claimed_name, datetime.now(UTC))
