"""Tokens of the API in tests: known ones, and putting them into a database."""

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import IntegrityError

from controller.access.tokens import NAME_PATTERN, Secret
from controller.db.access_models import ApiToken
from controller.db.engine import Database
from controller.db.states import Role
from tests.fake_clock import START

ADMIN: Final = Secret("ad1170b0", f"vxo_ad1170b0_{'A' * 43}")
"""The token that tests use where the token is not what they are about; its name is `admin`."""
HEADERS: Final = {"Authorization": f"Bearer {ADMIN.text}"}
ENVIRONMENT: Final = {"VXLAN_OPERATOR_TOKEN": ADMIN.text}
"""For `vxctl`."""


def give_token(
    database: Database, secret: Secret = ADMIN, name: str = "admin", role: Role = Role.ADMIN
) -> dict[str, str]:
    """Store a token, unless it is there; return the header that a request needs."""
    # Another thread of a test may store it at the same time.
    with suppress(IntegrityError), database.write() as session:
        if session.get(ApiToken, secret.id) is None:
            session.add(
                ApiToken(
                    id=secret.id,
                    digest=secret.digest,
                    name=name,
                    role=role,
                    created_at=START,
                    created_by="system",
                )
            )
    return {"Authorization": f"Bearer {secret.text}"}


def give_file(folder: Path) -> Path:
    """Write the file from which a controller takes its first token."""
    file = folder / "api-token"
    file.write_text(f"{ADMIN.text}\n")
    file.chmod(0o600)
    return file


def person(database: Database, body: dict[str, Any]) -> dict[str, str]:
    """Take the actor out of a body, if it may be a token's name; return the header with that token."""
    name = body.get("actor")
    if not isinstance(name, str) or re.fullmatch(NAME_PATTERN, name) is None:
        return HEADERS
    del body["actor"]
    id_ = hashlib.sha256(name.encode()).hexdigest()[:8]
    return give_token(database, Secret(id_, f"vxo_{id_}_{'P' * 43}"), name, Role.OPERATE)
