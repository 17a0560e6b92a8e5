"""Values, lines and tables as people and programs see them."""

import json
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from unittest.mock import patch

import pytest

from controller.cli.output import formats, phrases, structured, table, widths
from tests.fake_clock import START


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        pytest.param(0, "0s ago", id="now"),
        pytest.param(119, "119s ago", id="under two minutes"),
        pytest.param(120, "2m ago", id="two minutes"),
        pytest.param(125, "2m5s ago", id="under ten minutes"),
        pytest.param(3_180, "53m ago", id="under three hours"),
        pytest.param(15_120, "4h12m ago", id="under eight hours"),
        pytest.param(100_000, "27h ago", id="under two days"),
        pytest.param(273_600, "3d4h ago", id="under eight days"),
        pytest.param(864_000, "10d ago", id="under two years"),
        pytest.param(86_400 * 735, "2y5d ago", id="under eight years"),
        pytest.param(86_400 * 3650, "10y ago", id="above"),
        pytest.param(-30, "in 30s", id="ahead"),
        pytest.param(-14_400, "in 4h", id="far ahead"),
    ],
)
def test_a_time_relative_to_now(seconds: int, words: str) -> None:
    with patch.object(formats, "datetime", wraps=datetime) as clock:
        clock.now.return_value = START
        assert formats.ago((START - timedelta(seconds=seconds)).isoformat()) == words
        clock.now.assert_called_once_with(UTC)


def test_an_error_of_ours_is_not_taken_for_the_controllers() -> None:
    def as_text(answer: dict[str, str]) -> None:
        table.line(answer["a typo"])

    with pytest.raises(KeyError, match="a typo"):
        formats.show({"field": "1"}, "table", as_text)


def test_nodes_that_share_a_name_show_the_beginnings_of_their_ids() -> None:
    def name(name: str | None, *, shared: bool) -> str:
        row = {"node_name": name, "node_id": name and "1" * 25, "node_name_is_shared": shared}
        return phrases.on_node(row)

    assert name("a", shared=False) == "a"
    assert name("a", shared=True) == f"a ({'1' * 12})"
    assert name("x" * 255, shared=True) == f"{'x' * 14}… ({'1' * 12})"
    assert name(None, shared=False) == "-"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a bc def", ["a bc", "def"]),
        ("abcdefgh ij", ["abcde", "fgh", "ij"]),
        ("節点 節点節点", ["節点", "節点", "節点"]),
        (
            "e\N{COMBINING ACUTE ACCENT}" * 6,
            ["e\N{COMBINING ACUTE ACCENT}" * 5, "e\N{COMBINING ACUTE ACCENT}"],
        ),
    ],
)
def test_words_are_wrapped_by_the_cells_that_they_take(text: str, lines: list[str]) -> None:
    assert widths.wrap(text, 5) == lines
    assert max(map(widths.cells, lines)) <= 5


def test_no_time() -> None:
    assert formats.ago(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"), (0.0071, "7ms"), (0.9994, "999ms"), (1, "1s"), (1.52, "1.52s"), (13.26, "13.3s"),
        (119, "119s"), (120, "2m"), (10_800, "3h"), (200_000, "2d"), (-0.5, "-500ms"), (-7200, "-2h"),
    ],
)  # fmt: skip
def test_a_duration(seconds: float, shown: str) -> None:
    assert formats.duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("node-1.example", "node-1.example", id="ordinary"),
        pytest.param("knöten 节点", "knöten 节点", id="other languages"),
        pytest.param("\x1b[2Jx", "\\x1b[2Jx", id="escape sequence"),
        pytest.param("a\nb\r\tc", "a\\nb\\r\\tc", id="line ends"),
        pytest.param("\u202eevil", "\\u202eevil", id="right-to-left override"),
        pytest.param("[red]x[/red]", "[red]x[/red]", id="markup is not markup"),
    ],
)
def test_names_cannot_drive_a_terminal(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table.line(text)
    table.table([("NAME", str)], [text], empty="nothing")
    said, header, row, end = capsys.readouterr().out.split("\n")
    assert (said, header.strip(), row.strip(), end) == (shown, "NAME", shown, "")


def test_each_row_is_one_line_for_grep_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [("NODE", itemgetter(0)), ("REASON", itemgetter(1))]
    table.table(columns, [("one", "why " * 100), ("two", "-")], empty="nothing")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["NODE", "REASON"]
    assert first.startswith("one")
    assert second.split() == ["two", "-"]


def test_an_empty_table_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    table.table([("NODE", str)], [], empty="no nodes yet")
    assert capsys.readouterr().out == "no nodes yet\n"


@pytest.mark.parametrize("answer", [[], {}, [{"a": "\x1b[2J\u202e", "b": None}]])
def test_json_is_printed_as_it_came(answer: object, capsys: pytest.CaptureFixture[str]) -> None:
    structured.write(answer, "json", None)
    printed = capsys.readouterr().out
    assert json.loads(printed) == answer
    assert "\x1b" not in printed


def test_a_time_is_shown_in_this_machines_zone_to_the_millisecond() -> None:
    local = START.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert formats.clock("2030-01-01T12:00:00.123456Z") == f"{local}.123"
