"""Cursors: good for their request alone, and invented ones are refused."""

import base64
import json
from datetime import UTC

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from controller.api.cursor import CursorError, Cursors, question
from controller.api.routes.audit import AuditKey
from controller.safety.suppressed import DeviceKey
from controller.views.queries import NameKey, RunKey
from tests.fake_clock import START

AUDIT = Cursors(AuditKey)
KEY = AuditKey(START, 7, START.replace(year=1900), None)
ASKED = "0123456789abcdef"

times = st.datetimes(timezones=st.just(UTC))
numbers = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
keys = st.one_of(
    st.builds(NameKey, texts, texts),
    st.builds(DeviceKey, texts, texts, numbers),
    st.builds(RunKey, times, st.uuids()),
    st.builds(AuditKey, times, numbers, st.none() | times, st.none() | times),
)


@given(key=keys)
def test_a_key_comes_back_as_it_was(
    key: NameKey | DeviceKey | RunKey | AuditKey,
) -> None:
    cursors: Cursors[NameKey | DeviceKey | RunKey | AuditKey] = Cursors(type(key))
    text = cursors.encode(key, ASKED)
    assert cursors.decode(text, ASKED) == key
    assert text.replace("-", "").replace("_", "").isalnum()


def test_an_ordinary_cursor_fits_into_a_line() -> None:
    assert len(AUDIT.encode(AuditKey(START, 2**63 - 1, START, START), ASKED)) < 300


def request(path: str = "/api/v1/audit", query: str = "node=one&since=2h") -> Request:
    """A request for a page."""
    scope = {"type": "http", "path": path, "query_string": query.encode(), "headers": []}
    return Request({**scope, "server": ("127.0.0.1", 80), "scheme": "http"})


def test_the_page_and_the_order_of_parameters_do_not_matter() -> None:
    assert question(request()) == question(request(query="since=2h&limit=7&node=one&cursor=x"))


@pytest.mark.parametrize(
    "other",
    [
        request(query=""),
        request(query="node=one"),
        request(query="node=two&since=2h"),
        request(query="node=one&since=2h&vni=4097"),
        request(path="/api/v1/runs"),
    ],
)
def test_of_another_request(other: Request) -> None:
    cursor = AUDIT.encode(KEY, question(request()))
    with pytest.raises(CursorError, match="belongs to a request with other parameters"):
        AUDIT.decode(cursor, question(other))


def forged(*values: object, kind: object = 1) -> str:
    """A cursor with any contents."""
    raw = json.dumps([kind, values, ASKED]).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


AT = START.isoformat()


def test_what_the_forger_writes_is_otherwise_a_cursor() -> None:
    assert AUDIT.decode(forged(AT, 1, None, None), ASKED) == AuditKey(START, 1, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "=", "garbage!", "ä", "bnVsbA", "W10", AUDIT.encode(KEY, ASKED)[:-3],
        AUDIT.encode(KEY, ASKED) + "AAAA", "WyJb" * 60, "[" * 200,
        base64.urlsafe_b64encode(b"[" * 200).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        forged(AT, 1, None, None, kind=2),
        forged(AT, 1, None, None, kind="1"),
        forged(AT, 1, None),
        forged(AT, 1, None, None, None),
        forged(0, 1, None, None),
        forged("2030-01-01", 1, None, None),
        forged("2030-01-01T12:00:00", 1, None, None),
        forged("0001-01-01T00:00:00+14:00", 1, None, None),
        forged(AT, True, None, None),
        forged(AT, "1", None, None),
        forged(AT, -1, None, None),
        forged(AT, 2**63, None, None),
        forged(AT, 10**40, None, None),
        forged(AT, 1.5, None, None),
        forged(AT, 1, "x", None),
        forged(AT, 1, None, 10**18),
        forged({}, [], None, None),
    ],
)  # fmt: skip
def test_garbled(text: str) -> None:
    with pytest.raises(CursorError, match="cursor: is not a cursor of this list"):
        AUDIT.decode(text, ASKED)


@pytest.mark.parametrize("values", [("a\0", "b"), ("a", 1), ("\ud800", "b"), ("a",), ("a", None)])
def test_garbled_names(values: tuple[object, ...]) -> None:
    with pytest.raises(CursorError, match="is not a cursor of this list"):
        Cursors(NameKey).decode(forged(*values), ASKED)


@given(text=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_whatever_is_given_is_no_other_error(text: str) -> None:
    with pytest.raises(CursorError):
        AUDIT.decode(text, ASKED)
