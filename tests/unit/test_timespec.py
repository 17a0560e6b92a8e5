"""Times as people write them."""

from datetime import datetime, timedelta

import pytest

from controller.cli.period import with_zone
from controller.timespec import FIRST, LAST, parse_duration, parse_time
from tests.fake_clock import START


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", START - timedelta(seconds=90)),
        ("15m", START - timedelta(minutes=15)),
        ("2h", START - timedelta(hours=2)),
        ("7d", START - timedelta(days=7)),
        ("4w", START - timedelta(weeks=4)),
        ("0s", START),
        ("1.5h", START - timedelta(minutes=90)),
        ("2030-01-01T12:00:00Z", START),
        ("2030-01-01T14:00:00+02:00", START),
        ("2030-01-01 12:00:00.000Z", START),
        ("2030-01-01", START.replace(hour=0)),
        ("999999999w", FIRST),
        ("0001-01-01T00:00:00+23:00", FIRST),
        ("9999-12-31T23:59:59-23:00", LAST),
    ],
)
def test_a_moment(text: str, meant: datetime) -> None:
    assert parse_time(text, START) == meant
    assert parse_time(text, START).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2 h", "-2h", "2y", "h", "99999999999999h", "٣h", "2h\n",
        "1.5", ".5h", "1.5.h", "1.2345h",
        "2030-13-01", "2030-02-30", "2030-01-01T25:00:00Z", "2030-01-01T12:00:00", "12:00",
        "20300101", "\0", "1" * 60,
    ],
)  # fmt: skip
def test_what_is_no_moment_is_told_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|has no zone") as caught:
        parse_time(text, START)
    assert "2026-05-01T14:00:00Z" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2h", "2h"),
        (None, None),
        ("nonsense", "nonsense"),
        ("2030-01-01T12:00:00Z", "2030-01-01T12:00:00Z"),
        ("0001-01-01", "0001-01-01"),
    ],
)
def test_what_has_a_zone_or_needs_none_is_sent_as_it_is(text: str | None, told: str) -> None:
    assert with_zone(text) == told


@pytest.mark.parametrize("text", ["2030-01-01", "2030-01-01T12:00:00", "2030-01-01 12:00"])
def test_a_person_means_the_zone_of_this_machine(text: str) -> None:
    told = with_zone(text)
    assert told is not None
    assert datetime.fromisoformat(told) == datetime.fromisoformat(text).astimezone()
    assert parse_time(told, START) == datetime.fromisoformat(text).astimezone()


def test_a_duration() -> None:
    assert parse_duration("1.5h") == timedelta(minutes=90)
    assert parse_duration("4w") == timedelta(weeks=4)


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "1y", "1.2345h", "\u0663h", "2h\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)
