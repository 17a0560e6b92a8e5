"""Errors of the database go into logs, and what was stored does not."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from controller.db.engine import Database


@pytest.mark.parametrize("way", ["read", "write"])
def test_an_error_does_not_tell_the_values(database: Database, way: str) -> None:
    with pytest.raises(SQLAlchemyError) as error, getattr(database, way)() as session:
        session.execute(
            text("SELECT nothing FROM nowhere WHERE url = :url"), {"url": "hooks/s3cret"}
        )
    assert "nowhere" in str(error.value)
    assert "s3cret" not in str(error.value)
