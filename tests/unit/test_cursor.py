"""Cursors: good for their question alone, and nothing that somebody made up is one."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.cursor import Cursor
from controller.audit.queries.pages import RowKey
from tests.fake_clock import START

QUESTION = [("node", "one"), ("since", "2h")]
CURSOR = Cursor(RowKey(START, 7), START.replace(year=1900), None)

moments = st.datetimes(timezones=st.just(UTC))


@given(
    at=moments,
    number=st.integers(0, 2**63 - 1),
    since=st.none() | moments,
    until=st.none() | moments,
)
def test_it_comes_back_as_it_was(
    at: datetime, number: int, since: datetime | None, until: datetime | None
) -> None:
    cursor = Cursor(RowKey(at, number), since, until)
    text = cursor.encode(QUESTION)
    assert Cursor.decode(text, QUESTION[::-1]) == cursor
    assert len(text) < 300
    assert text.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("question", [[], QUESTION[:1], [*QUESTION, ("vni", "4097")]])
def test_of_another_question(question: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="belongs to another question"):
        Cursor.decode(CURSOR.encode(QUESTION), question)


def forged(*values: object) -> str:
    """A cursor with any contents."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "=", "garbage!", "ä", "bnVsbA", "W10", CURSOR.encode(QUESTION)[:-3],
        CURSOR.encode(QUESTION) + "AAAA", "WyJb" * 60, "[" * 200,
        base64.urlsafe_b64encode(b"[" * 200).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        forged(2, 0, 1, None, None, ""),
        forged(1, "0", 1, None, None, ""),
        forged(1, True, 1, None, None, ""),
        forged(1, 0, -1, None, None, ""),
        forged(1, 0, 2**63, None, None, ""),
        forged(1, 0, 1.5, None, None, ""),
        forged(1, 10**40, 1, None, None, ""),
        forged(1, 0, 1, "x", None, ""),
        forged(1, 0, 1, None, 10**18, ""),
        forged({}, [], 1, None, None, ""),
    ],
)  # fmt: skip
def test_garbled(text: str) -> None:
    with pytest.raises(ValueError, match="is not one that this API gave"):
        Cursor.decode(text, QUESTION)


@given(text=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_whatever_is_given_is_no_other_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not one|another question"):
        Cursor.decode(text, QUESTION)
