"""`vxctl get nodes -w` against the real API: what changes is printed, in a pipe, also after a restart."""

import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Self

import pytest
from fastapi import FastAPI

from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode, Stage
from controller.api.app import build
from controller.api.context import Context
from controller.cli import live
from controller.cli.client import UnavailableError
from controller.cli.output import structured
from controller.db.engine import Database
from tests.audit_rows import add, row
from tests.controller_process import VXCTL, environment, free_port
from tests.fake_clock import START
from tests.fake_swarm import node, snapshot
from tests.follower import serving
from tests.stored import put
from tests.tokens import give_token

_TIMEOUT_SECONDS = 60.0


def api(database: Database) -> FastAPI:
    """The API over a database."""
    return build(
        Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, leading=lambda: False)
    )


class Following:
    """`vxctl ... -w` whose output is a pipe."""

    def __init__(self, port: int, *arguments: str) -> None:
        self.process = subprocess.Popen(
            # Whoever runs the tests in the background ignores SIGINT, and that is inherited.
            [
                "env",
                "--default-signal=INT",
                VXCTL,
                *arguments,
                "-w",
                "--url",
                f"http://127.0.0.1:{port}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._said: queue.Queue[str] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in (
                (self.process.stdout, self._lines),
                (self.process.stderr, self._said),
            )
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream: Iterator[str], lines: "queue.Queue[str]") -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(_TIMEOUT_SECONDS)

    def line(self) -> str:
        """The next line of its output; waits for it."""
        return self._lines.get(timeout=_TIMEOUT_SECONDS)

    def told(self) -> str:
        """The next line on standard error; waits for it."""
        return self._said.get(timeout=_TIMEOUT_SECONDS)

    def interrupt(self) -> tuple[int, list[str]]:
        """Press Ctrl-C; the exit status, and the lines that came on either stream after what was read."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(_TIMEOUT_SECONDS)
        rest = []
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS)
        for lines in (self._lines, self._said):
            with suppress(queue.Empty):
                while True:
                    rest.append(lines.get_nowait())
        return status, rest


def test_a_table_goes_on_with_what_changes(database: Database) -> None:
    put(database, snapshot("one", "two"))
    give_token(database)
    port = free_port()
    with serving(api(database), port), Following(port, "get", "nodes") as following:
        assert following.line().split()[:2] == ["NODE", "READY"]
        assert [following.line().split()[0] for _ in range(2)] == ["one", "two"]
        put(database, snapshot("one", "two", "three"))
        assert following.line().split()[:2] == ["three", "Unknown"]
        put(database, snapshot("one", "three", node("two", state="down")))
        assert following.line().split()[:2] == ["two", "Unknown,down"]
        put(database, snapshot("one", "three"))
        assert following.line().split()[:2] == ["two", "(removed)"]
        assert following.interrupt() == (ExitStatus.INTERRUPTED, [])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_json_is_an_object_a_change_and_a_restart_loses_and_repeats_nothing(
    database: Database,
) -> None:
    put(database, snapshot("one"))
    give_token(database)
    port = free_port()

    def change() -> tuple[str, str]:
        found = json.loads(following.line())
        assert list(found) == ["event", "item"]
        return found["event"], found["item"]["hostname"]

    with Following(port, "get", "nodes", "-o", "json") as following:
        # It waits for a controller that is not there yet, and says so.
        assert "no controller answers" in following.told()
        with serving(api(database), port):
            assert change() == ("added", "one")
            put(database, snapshot("one", "two"))
            assert change() == ("added", "two")
        # The server's reason for the end.
        while "again in" not in (said := following.told()) or "stop" not in said:
            pass
        put(database, snapshot("one", "three"))
        with serving(api(database), port):
            # What was there before and is the same is not told again.
            assert change() == ("added", "three")
            assert change() == ("removed", "two")
            put(database, snapshot("one"))
            assert change() == ("removed", "three")
            status, rest = following.interrupt()
    assert status == ExitStatus.INTERRUPTED
    assert not any("Traceback" in line for line in rest)


def test_events_go_on_after_a_restart_and_none_is_told_twice(database: Database) -> None:
    put(database, snapshot("one", "two"))
    give_token(database)
    port = free_port()

    def note(name: str, minutes: int) -> None:
        at = START + timedelta(minutes=minutes)
        add(database, row(at, stage=Stage.PAUSED, node=name, reason=f"disk {minutes}"))

    note("one", 1)
    with Following(port, "events", "for", "node", "one", "--since", "2000-01-01") as following:
        assert "no controller answers" in following.told()
        with serving(api(database), port):
            assert following.line().split()[:2] == ["AT", "TYPE"]
            assert "disk 1" in following.line()
            note("two", 2)
            note("one", 3)
            assert "disk 3" in following.line()
        note("one", 4)
        with serving(api(database), port):
            assert "disk 4" in following.line()
            note("one", 5)
            assert "disk 5" in following.line()
            status, rest = following.interrupt()
    assert status == ExitStatus.INTERRUPTED
    assert not [line for line in rest if "again in" not in line]


def test_a_device_is_known_by_its_node_and_namespace() -> None:
    known = live._Known(structured.DEVICE)
    rows = [
        {"node_id": node, "netns": netns, "ifindex": 1, "name": "vx-001001-abcde"}
        for node, netns in (("one", "host"), ("one", "nsid:1"), ("two", "host"))
    ]
    for each in rows:
        known.note("added", each)
    assert known.news(rows) == []
    assert known.news([rows[0], {**rows[2], "name": "vx"}]) == [
        ("modified", {**rows[2], "name": "vx"}),
        ("removed", rows[1]),
    ]


def test_a_run_that_is_not_among_the_newest_has_not_gone() -> None:
    known = live._Known(structured.RUN)
    known.note("added", {"id": "1"})
    assert known.news([{"id": "2"}]) == [("added", {"id": "2"})]


def test_of_a_history_it_remembers_no_more_than_may_come_again() -> None:
    known = live._Known(structured.RUN)
    for number in range(3_000):
        known.note("added", {"id": str(number)})
    assert known.news([{"id": "2999"}, {"id": "2000"}]) == []
    assert known.news([{"id": "0"}]) == [("added", {"id": "0"})], "forgotten"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_refusal_ends_it_with_one_clear_error(database: Database) -> None:
    put(database, snapshot("one"))
    give_token(database)
    port = free_port()
    with (
        serving(api(database), port),
        Following(port, "get", "runs", "--node", "nowhere") as following,
    ):
        assert following.process.wait(_TIMEOUT_SECONDS) == ExitStatus.ERROR
        assert following.told().startswith("error: ")
        assert following.told().startswith("hint: ")


def test_what_is_no_event_of_a_controller_is_told() -> None:
    with pytest.raises(UnavailableError, match="not JSON"):
        list(live.events(["event: added", "data: {", ""]))


def test_events_are_read_as_html_says() -> None:
    lines = [
        ": alive",
        "event: added",
        "id: 7",
        "data: {",
        "data: }",
        "",
        "data: 1",
        "",
        "retry: 3",
        "",
        "",
    ]
    assert list(live.events(lines)) == [("added", {}, "7"), ("message", 1, "7")]
