"""The join token that an installation made beforehand: stored at the first start with its file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import text

from contract.runtime.errors import UsageError
from contract.runtime.secret_file import read_secret
from contract.signing.join import JoinToken
from contract.signing.keys import PublicKey
from controller.access.store import By
from controller.access.tokens import SYSTEM
from controller.db import key_models
from controller.db.engine import Database
from controller.trust import store

log = structlog.get_logger(__name__)

_VARIABLE: Final = "VXLAN_OPERATOR_JOIN_TOKEN_FILE (or --join-token-file)"
_LOCK: Final = 0x7678_6A6F_696E
"""PostgreSQL's advisory lock of controllers that start together."""


def ensure(database: Database, file: str, controllers: PublicKey) -> None:
    """Let nodes join by the token in a file; a token that is known, also as revoked, is left as it is.

    A file that is missing is not taken for an error, as workers do not either: the variable may serve both.

    Args:
        controllers: the key that signs. A token that names another is not stored: who joined by it would
            believe none of us.

    Raises:
        UsageError: the file cannot be read, or holds no join token.
    """
    try:
        Path(file).stat()
    except FileNotFoundError:
        log.warning("the join token's file is missing, so no token is taken from it", file=file)
        return
    except (OSError, ValueError):
        pass  # Reading says why it cannot be read.
    content = read_secret(file, _VARIABLE)
    try:
        token = JoinToken.parse(content)
    except ValueError as error:
        raise UsageError(
            f"the join token in {file} cannot be used: {error}",
            f"set {_VARIABLE} to a file that `vxctl node join-token create --file FILE` made",
        ) from None
    with database.write() as session:
        if database.engine.dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if session.get(key_models.JoinToken, token.public.id) is not None:
            return
        if token.controllers != controllers:
            log.warning(
                "the join token in the file is for another key of the controllers, and not taken; "
                "`vxctl node join-token create` makes a new one",
                file=file,
                key=token.controllers.id,
                signs=controllers.id,
            )
            return
        by = By(SYSTEM, None, datetime.now(UTC))
        store.create_join_token(session, token.public, by, None)
    log.info("nodes may join by the token in the file", file=file, token=token.public.id)
