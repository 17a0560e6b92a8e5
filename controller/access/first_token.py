"""The first token: made at the first start into a file for its owner only, or taken from that file."""

import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from contract.runtime.errors import OperatorError
from controller.access import store
from controller.access.token_file import read_token, write_token
from controller.access.tokens import SYSTEM, Secret
from controller.db.access_models import ApiToken
from controller.db.engine import Database
from controller.db.states import Role

log = structlog.get_logger(__name__)

FIRST_NAME: Final = "admin"
_LOCK: Final = 0x7678_746F_6B
"""PostgreSQL's advisory lock of controllers that start together."""


def ensure(database: Database, file: Path) -> None:
    """Let the database have a token: where it never had one, an admin's, whose text is in `file`.

    A file that is there is never changed. Where the database has no token, the token of the file is taken: so
    a secret of Docker's, or a file that outlived its database, can give the first one.

    Raises:
        OperatorError: the file holds no token, is another user's, or cannot be written. Nothing was stored.
    """
    try:
        with database.write() as session:
            if database.engine.dialect.name == "postgresql":
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if session.scalar(select(ApiToken.id).limit(1)) is not None:
                return
            _refuse_of_others(file)
            secret = read_token(file)
            made = secret is None
            if secret is None:
                secret = _made(file)
            store.create(
                session,
                secret,
                name=FIRST_NAME,
                role=Role.ADMIN,
                expires_at=None,
                by=store.By(SYSTEM, None, datetime.now(UTC)),
                reason=f": the first one, in {file} on {socket.gethostname()}",
            )
    except IntegrityError:  # Impossible under the lock; if so, another controller has made one.
        log.warning("another controller made the first token")
        return
    log.info(
        "the first token is in this file" if made else "the first token is the file's",
        file=str(file),
    )


def _refuse_of_others(file: Path) -> None:
    """Refuse a token that another user may have put there, for example in /tmp, to be an admin here.

    Raises:
        OperatorError: the file, or a link to it, belongs to another user, or everybody may write to it.
    """
    for look in (file.lstat, file.stat):
        try:
            found = look()
        except OSError:
            return  # Reading or writing it says more.
        writable = stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH
        if found.st_uid not in (0, os.geteuid()) or writable:
            raise OperatorError(
                f"the token file {file} belongs to another user, or everybody may write to it",
                "set VXLAN_OPERATOR_API_TOKEN_FILE (or --api-token-file) to a file of this program's user",
            )


def _made(file: Path) -> Secret:
    secret = Secret.generate()
    try:
        # Before the commit: a crash in between leaves a file that the next start takes.
        write_token(file, secret)
    except OSError as error:
        raise OperatorError(
            f"the token file {file} cannot be written: {error.strerror or error}",
            "set VXLAN_OPERATOR_API_TOKEN_FILE (or --api-token-file) to a file that this program may create",
        ) from error
    return secret
