"""The controllers' private key: made at the first start, and from then on the one that the database knows."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from contract.runtime.errors import OperatorError
from contract.runtime.key_file import make_key, read_key
from contract.signing.keys import SigningKey
from controller.db.engine import Database
from controller.db.key_models import ControllerKey
from controller.db.states import ControllerKeyState

log = structlog.get_logger(__name__)

_FOLDER: Final = Path("/var/lib/vxlan-operator")
_NAME: Final = "controller.key"
_SQLITE: Final = "sqlite:///"
_LOCK: Final = 0x7678_6B65_79
"""PostgreSQL's advisory lock of controllers that start together."""


def key_file(given: str, database_url: str) -> Path:
    """Return the file of the key: the given one, or `controller.key` beside an SQLite database.

    With another database it is in /var/lib/vxlan-operator.
    """
    if given:
        return Path(given)
    if database_url.startswith(_SQLITE):
        file = database_url.removeprefix(_SQLITE).partition("?")[0]
        return Path(file).resolve().with_name(_NAME)
    return _FOLDER / _NAME


def next_file(file: Path) -> Path:
    """Return the file of the key that a rotation brings."""
    return file.with_name(f"{file.name}.next")


def ensure(database: Database, file: Path) -> SigningKey:
    """Return the key that signs; make it if the database knows none yet and there is no file.

    A key that another controller of this database lacks would split the cluster: its requests would be
    refused by every node. So a key is made once a database.

    Raises:
        OperatorError: the file is missing, holds another key than the database knows or a retired one, or
            cannot be read.
    """
    with database.write() as session:
        if database.engine.dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        signing = session.scalar(
            select(ControllerKey).where(ControllerKey.state == ControllerKeyState.SIGNING)
        )
        if signing is not None:
            known = load(file, signing.id)
            promote(file, signing.id)
            return known
        key = read_key(file)
        if key is not None and session.get(ControllerKey, key.public.id) is not None:
            raise OperatorError(
                f"the controllers' key {key.public.id} in {file} is retired",
                f"move it away, and the next start makes another: mv {file} {file}.retired",
            )
        made = key is None
        key = key or make_key(file)
        _store(session, key, ControllerKeyState.SIGNING)
    log.info(
        "the controllers' key was made" if made else "the controllers' key is the file's",
        file=str(file),
        key=key.public.id,
    )
    return key


def load(file: Path, key_id: str) -> SigningKey:
    """Return the key of this id, from the file or the one beside it that a rotation brings.

    Raises:
        OperatorError: neither has it.
    """
    # The first again: another controller that has the same files may be in the middle of `promote`.
    for path in (file, next_file(file), file):
        found = read_key(path)
        if found is not None and found.public.id == key_id:
            return found
    wrong = "is missing" if found is None else f"is the key {found.public.id}"
    raise OperatorError(
        f"the controllers sign with the key {key_id}, and {file} {wrong}",
        "copy that file from a controller that runs, or from a backup; all controllers of a database "
        "share one key (VXLAN_OPERATOR_SIGNING_KEY); if it is lost for good, `vxctl keys replace`",
    )


def promote(file: Path, key_id: str) -> None:
    """Put the key of a finished rotation in the place of the one before, which is kept as `.retired`.

    Then there is room for the next one. What cannot be moved, such as a secret, is left to a person.
    """
    following = next_file(file)
    try:
        rotated, present = read_key(following), read_key(file)
        if rotated is None or rotated.public.id != key_id:
            return
        if present is not None and present.public.id != key_id:
            retired = file.with_name(f"{file.name}.retired")
            retired.unlink(missing_ok=True)
            os.link(file, retired)
        following.replace(file)
    except (OperatorError, OSError) as error:
        log.warning(
            "the controllers' key is not moved to its place; do that before the next rotation",
            file=str(following),
            to=str(file),
            error=str(error),
        )
        return
    log.info("the controllers' key was moved to its place", file=str(file), key=key_id)


def _store(session: Session, key: SigningKey, state: ControllerKeyState) -> None:
    session.add(
        ControllerKey(
            id=key.public.id,
            public_key=key.public.text,
            state=state,
            created_at=datetime.now(UTC),
        )
    )
