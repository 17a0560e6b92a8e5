"""Phrases for rows of the API, and a view that is redrawn."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from contract.runtime.errors import OperatorError
from contract.verdicts import STAGE_WORDS, Stage
from controller.cli.output import colours, columns, formats, phrases, table, watch


def condition(type_: str, status: str, reason: str, message: str = "m") -> dict[str, Any]:
    """A condition as the API tells it."""
    return {"type": type_, "status": status, "reason": reason, "message": message}


WELL = [
    condition("Ready", "True", "Converged"),
    condition("Degraded", "False", "NothingWrong"),
    condition("Stalled", "False", "Progressing"),
    condition("Paused", "False", "NotPaused"),
]


def row(**changes: Any) -> dict[str, Any]:
    """A node as the API tells it."""
    return {
        "conditions": WELL,
        "devices": {},
        "state": "ready",
        "running": None,
        "due_at": None,
        "label_mode": None,
        "label_ignore": False,
        "mode": None,
        "paused_at": None,
        "worker_seen_at": None,
        "last_run": None,
    } | changes


def test_a_node_that_is_well() -> None:
    assert (phrases.ready(row()), phrases.reason(row()), phrases.abnormal(row())) == (
        "True",
        "-",
        [],
    )


def test_a_node_that_is_not() -> None:
    its = row(
        conditions=[
            condition("Ready", "Unknown", "WorkerAway", "away"),
            condition("Degraded", "True", "DeviceConflict", "conflict"),
            condition("Stalled", "True", "WorkerAway", "away"),
        ]
    )
    assert (phrases.ready(its), phrases.reason(its)) == ("Unknown", "WorkerAway")
    assert list(phrases.sentences(phrases.abnormal(its))) == [
        "WorkerAway: away",
        "DeviceConflict: conflict",
    ]


def test_a_node_before_it_was_judged() -> None:
    assert (phrases.ready(row(conditions=[])), phrases.reason(row(conditions=[]))) == (
        "Unknown",
        "-",
    )


def test_a_condition_of_a_newer_controller_is_no_trouble() -> None:
    assert phrases.abnormal(row(conditions=[condition("Flying", "True", "Wings")])) == []


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({}, "0"),
        ({"in_use": 3}, "3"),
        ({"in_use": 3, "orphan": 1, "conflict": 2}, "6 (2 conflict, 1 orphan)"),
    ],
)
def test_devices(counts: dict[str, int], shown: str) -> None:
    assert phrases.device_counts(row(devices=counts)) == shown


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "-"),
        ({"mode": "enforce"}, "enforce"),
        ({"mode": "enforce", "label_mode": "observe"}, "observe"),
        ({"label_ignore": True, "mode": "observe"}, "ignored"),
        ({"paused_at": "2030-01-01T12:00:00Z", "label_ignore": True}, "paused"),
    ],
)
def test_mode(changes: dict[str, Any], shown: str) -> None:
    assert phrases.mode(row(**changes)) == shown


def test_who_is_not_looked_at_has_no_next_run() -> None:
    due = {"due_at": "2030-01-01T12:00:00Z"}
    assert phrases.next_run(row(**due)) != "-"
    assert phrases.next_run(row(**due, running="id")) == "running"
    assert phrases.next_run(row(**due, state="down")) == "-"
    assert phrases.next_run(row(**due, conditions=[condition("Paused", "True", "Paused")])) == "-"


@pytest.mark.parametrize("text", ["n" * 31, "節" * 16, "\x1b[2J" * 9])
def test_a_long_name_is_cut_to_its_cells(text: str) -> None:
    cut = formats.short(text)
    assert cell_len(cut) <= 30
    assert cut.endswith("\N{HORIZONTAL ELLIPSIS}")
    assert cut.isprintable()


def test_a_name_that_fits_stays() -> None:
    assert formats.short("n" * 30) == "n" * 30


def test_a_device_that_was_not_looked_at_lately_says_so() -> None:
    now = datetime.now(UTC)
    device = {"reason": "its sandbox has 1 endpoint(s)", "held_back": []}
    fresh = device | {"looked_at": (now - timedelta(seconds=90)).isoformat()}
    assert phrases.device_reason(fresh) == "its sandbox has 1 endpoint(s)"
    old = device | {"looked_at": (now - timedelta(minutes=5)).isoformat()}
    assert phrases.device_reason(old) == "as of 5m ago: its sandbox has 1 endpoint(s)"


@pytest.mark.parametrize(
    ("text", "colour"), [("False", "32"), ("True", "32"), ("True !", "31"), ("Unknown !", "31")]
)
def test_a_condition_is_red_if_it_is_abnormal_and_not_because_it_is_false(
    monkeypatch: pytest.MonkeyPatch, text: str, colour: str
) -> None:
    monkeypatch.setattr("controller.cli.output.style.has_colours", lambda: True)
    assert colours.cell("STATUS", text) == f"\x1b[{colour}m{text}\x1b[0m"


def test_the_name_of_a_device_is_whole_on_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("controller.cli.output.style.has_colours", lambda: False)
    device = {
        "node_name": "node3", "name": "vx-001001-0hqd7", "ifindex": 11, "netns": "host", "netns_file": None,
        "vni": 4097, "network_name": "shop", "network_id": None, "verdict": "orphan",
        "urgency": "blocking", "first_seen_at": datetime.now(UTC).isoformat(), "reason": "r" * 200,
    }  # fmt: skip
    table.table(columns.DEVICES, [device], empty="")
    printed = capsys.readouterr().out
    assert "  vx-001001-0hqd7#11  " in printed
    assert max(map(len, printed.splitlines())) <= 80


class Terminal:
    """Standard output that says it is a terminal, and Ctrl-C after some pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pictures: int) -> None:
        self.pauses: list[float] = []
        self._pictures = pictures
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("LINES", "6")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("controller.cli.output.watch.time.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == self._pictures:
            raise KeyboardInterrupt


def test_a_watch_draws_in_place_until_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(monkeypatch, pictures=3)
    numbers = iter(range(10))
    with pytest.raises(KeyboardInterrupt):
        watch.watch(lambda height: table.line(f"picture {next(numbers)} of {height} lines"))
    assert terminal.pauses == [2.0, 2.0, 2.0]
    out = capsys.readouterr().out
    begin, *pictures = out.split("\x1b[H")
    assert begin == "\x1b[?7l"
    assert pictures == [
        "\x1b[2J",
        "picture 0 of 6 lines\x1b[J",
        "picture 1 of 6 lines\x1b[J",
        "picture 2 of 6 lines\x1b[J\x1b[?7h\n",
    ]


def _long(_height: int) -> None:
    for number in range(100):
        table.line(f"line {number}")


def test_a_watch_never_outgrows_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Terminal(monkeypatch, pictures=1)
    with pytest.raises(KeyboardInterrupt):
        watch.watch(_long)
    picture = capsys.readouterr().out.split("\x1b[2J\x1b[H")[1].split("\x1b[J")[0]
    assert picture.split("\x1b[K\n") == [
        "line 0",
        "line 1",
        "line 2",
        "line 3",
        "... and 96 more lines",
    ]


def test_a_watch_goes_on_while_the_controller_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Terminal(monkeypatch, pictures=2)
    answers: list[Callable[[], None]] = [_away, lambda: table.line("there")]
    with pytest.raises(KeyboardInterrupt):
        watch.watch(lambda _height: answers.pop(0)())
    out = capsys.readouterr().out
    assert "error: away\x1b[K\nhint: wait" in out
    assert "there" in out


def _away() -> None:
    raise OperatorError("away", "wait")


def test_a_watch_ends_with_the_terminal_as_it_was_even_on_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Terminal(monkeypatch, pictures=2)
    with pytest.raises(ZeroDivisionError):
        watch.watch(lambda _height: table.line(str(1 / 0)))
    assert capsys.readouterr().out.endswith("\x1b[?7h\n")


def test_a_watch_needs_a_terminal() -> None:
    with pytest.raises(OperatorError, match="needs a terminal"):
        watch.watch(lambda _height: None)


def test_every_stage_has_words() -> None:
    assert STAGE_WORDS.keys() == set(Stage)
