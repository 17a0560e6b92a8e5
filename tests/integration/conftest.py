"""What the tests of the controller share."""

from collections.abc import Iterator

import pytest

from controller.database import Database, open_database
from tests.fake_clock import Clock


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database of the controller, with empty tables; each supported kind in turn."""
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()
