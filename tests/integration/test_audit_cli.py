"""`vxctl audit` against a real API: what people and programs see, and following what is stored."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import pytest
import uvicorn

from contract import VERSION
from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode, Stage
from controller.api import IDENTITY_HEADER
from controller.cli import audit, main
from controller.cli.client import Client
from controller.db.engine import Database
from tests.api_client import shared_app
from tests.audit_rows import add, row
from tests.controller_process import VXCTL, environment, free_port
from tests.fake_clock import START
from tests.fake_swarm import snapshot, swarm_id
from tests.servers import await_true
from tests.stored import put
from tests.tokens import give_token

RUN = UUID("abcdef12-0000-4000-8000-000000000000")


class Api:
    """The API on a port of its own, in a thread; it can be stopped and started again."""

    def __init__(self, database: Database) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._app = shared_app(database, Mode.OBSERVE)

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", self._port))
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                headers=[(IDENTITY_HEADER, VERSION)],
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        await_true(lambda: self._server.started, "the API answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        self._socket.close()


@pytest.fixture
def api(database: Database) -> Iterator[Api]:
    """The API over a database with nodes `one` and `two`."""
    put(database, snapshot())
    give_token(database)
    with Api(database) as api:
        yield api


@pytest.fixture
def vxctl(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `vxctl audit ...`; return what it says."""

    def run(*arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["vxctl", "audit", *arguments])
        monkeypatch.setenv("VXLAN_OPERATOR_URL", api.url)
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        assert (caught.value.code or 0) == status, said.err
        return said.err if status else said.out

    return run


def ids(text: str) -> list[int]:
    """The ids of rows that were told one a line."""
    return [json.loads(line)["id"] for line in text.splitlines()]


def test_a_table_for_people(vxctl: Callable[..., str], database: Database) -> None:
    add(
        database,
        row(),
        row(START + timedelta(1), network=None, node="two", reason="because"),
        row(START + timedelta(2), stage=Stage.PAUSED, name=None, network=None, vni=None, urgency=None,
            ifindex=None, netns=None),
    )  # fmt: skip
    header, paused, unknown, plain = (line.split() for line in vxctl().splitlines())
    assert header == [
        "TIME",
        "NODE",
        "STAGE",
        "DEVICE",
        "NETNS",
        "VNI",
        "NETWORK",
        "URGENCY",
        "REASON",
    ]
    local = START.astimezone()
    assert plain == [
        f"{local:%Y-%m-%d}", f"{local:%H:%M:%S}.000", "one", "applied", "vx-001001-shopz#7", "host",
        "4097", "shop", "stale", "reason",
    ]  # fmt: skip
    assert unknown[2:] == [
        "two", "applied", "vx-001001-shopz#7", "host", "4097", "?", "stale", "because",
    ]  # fmt: skip
    assert paused[2:] == ["one", "paused", "-", "-", "-", "-", "-", "reason"]


def test_columns_stand_under_their_titles(vxctl: Callable[..., str], database: Database) -> None:
    add(database, row(node_name="節点"), row(node_name="a-much-longer-name"), row())
    header, *lines = vxctl("-o", "wide").splitlines()
    at = header.index("STAGE")
    assert [line.encode("gb18030")[at:].split()[0] for line in lines] == [b"applied"] * 3


def test_nothing_that_matches_is_said_in_words(vxctl: Callable[..., str]) -> None:
    assert vxctl() == "no matching rows\n"
    assert vxctl("-o", "json") == "[]\n"
    assert vxctl("-o", "jsonl") == ""
    assert vxctl("-o", "csv").count("\r\n") == 1


def test_json_is_one_list_and_lines_are_one_row_each(
    vxctl: Callable[..., str], database: Database
) -> None:
    stored = add(database, *(row() for _ in range(5)))
    told = json.loads(vxctl("-o", "json"))
    assert [each["id"] for each in told] == list(stored)[::-1]
    assert [json.loads(line) for line in vxctl("-o", "jsonl").splitlines()] == told
    assert told[0]["at"] == "2030-01-01T12:00:00Z"


HOSTILE = [
    "=1+1", "+cmd", "-2", "@SUM(A1)", '"quoted", with commas', "two\r\nlines", "\x1b[2J\x07", "\u202egnp",
    "\t=1", "'", "ordinary",
]  # fmt: skip


def test_csv_is_rfc_4180_and_never_a_formula(vxctl: Callable[..., str], database: Database) -> None:
    add(database, *(row(node_name=name, reason=name) for name in HOSTILE))
    text = vxctl("-o", "csv")
    header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert text.count("\r\n") == text.count("\n") == len(HOSTILE) + 1
    assert header[:4] == ["id", "entry_id", "at", "stored_at"]
    names = [dict(zip(header, line, strict=True))["node_name"] for line in lines][::-1]
    assert names == [
        "'=1+1", "'+cmd", "'-2", "'@SUM(A1)", '"quoted", with commas', "two\\r\\nlines",
        "\\x1b[2J\\x07", "\\u202egnp", "\\t=1", "'", "ordinary",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["table", "wide", "json", "jsonl", "csv"])
def test_no_name_drives_a_terminal(
    vxctl: Callable[..., str], database: Database, form: str
) -> None:
    add(
        database,
        *(row(node_name=name, network_name=name, name=name, reason=name) for name in HOSTILE),
    )
    text = vxctl("-o", form)
    assert all(character.isprintable() or character in "\r\n" for character in text)


def test_each_option_is_a_filter(vxctl: Callable[..., str], database: Database) -> None:
    now = datetime.now(UTC)
    (mine, _) = add(
        database,
        row(now, node="two", network="mail", vni=5, name="vxlan0", ifindex=9, stage=Stage.FAILED,
            verdict="foreign", urgency="blocking", actor="alice", run_id=RUN),
        row(now),
    )  # fmt: skip
    for option in (
        ("--node", "two"), ("--network", "mail"), ("--vni", "5"), ("--device", "vxlan0#9"),
        ("--stage", "failed", "--stage", "refused"), ("--verdict", "foreign"), ("--urgency", "blocking"),
        ("--actor", "alice"), ("--run", "abcdef12"),
        ("--node", "two", "--since", "1h", "--until", (now + timedelta(days=2)).isoformat()),
    ):  # fmt: skip
        assert ids(vxctl(*option, "-o", "jsonl")) == [mine], option


def test_pages_are_put_together(
    vxctl: Callable[..., str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.cli.client.PAGE_ROWS", 3)
    stored = list(add(database, *(row() for _ in range(60))))[::-1]
    assert ids(vxctl("-o", "jsonl")) == stored[:50]
    assert ids(vxctl("-o", "jsonl", "--limit", "7")) == stored[:7]
    assert ids(vxctl("-o", "jsonl", "--all")) == stored
    assert vxctl("--all").count("TIME") == 1


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (("--node", "nosuch"), "no node that is or was known", 1),
        (("--since", "yesterday"), "since: 'yesterday' is no time", 2),
        (("--since", "1h", "--until", "2h"), "until: must be later than since", 2),
        (("--device", "#"), "device: must be NAME or NAME#IFINDEX", 2),
        (("--follow", "--all"), "--follow has no end", 2),
        (("--follow", "--until", "1h"), "--follow has no end", 2),
        (("--follow", "-o", "json"), "a JSON list would never end", 2),
        (("--node", "one", "stats"), "--node must come after the subcommand", 2),
        (
            ("show", "nosuch"),
            "no run has the id, or id prefix of at least 6 characters, 'nosuch'",
            1,
        ),
        (("show", "../../status"), "Not Found", 1),
        (("stats", "--since", "x"), "since: 'x' is no time", 2),
    ],
)
def test_an_invalid_question_is_a_clear_error(
    vxctl: Callable[..., str], arguments: tuple[str, ...], words: str, status: int
) -> None:
    error, hint = vxctl(*arguments, status=status).splitlines()
    assert error.startswith("error: ")
    assert words in error
    assert re.fullmatch("hint: .+", hint)


def test_a_story_in_plain_words(vxctl: Callable[..., str], database: Database) -> None:
    def after(milliseconds: int) -> datetime:
        return START + timedelta(milliseconds=milliseconds)

    numbers = add(
        database,
        row(after(0), stage=Stage.REQUESTED, run_id=RUN, network=None, name=None, actor="alice",
            reason="requeued by alice: disk swapped", evidence=None, urgency=None),
        row(after(1000), stage=Stage.DETECTED, run_id=RUN, reason="dead", evidence="DOWN"),
        row(after(1007), stage=Stage.PLANNED, run_id=RUN, reason="dead", evidence="DOWN"),
        row(after(1020), stage=Stage.APPLIED, run_id=RUN, evidence="gone", stored_at=after(10_800_000)),
        row(after(1001), stage=Stage.DETECTED, run_id=RUN, name="vxlan0", netns="nsid:4", network=None),
        row(after(2500), stage=Stage.VERIFIED, run_id=RUN, evidence="gone"),
    )  # fmt: skip
    text = vxctl("show", "abcdef12")
    assert vxctl("show", str(numbers[3])) == text
    lines = text.splitlines()
    assert lines[0] == f"Run {RUN} on node one ({swarm_id('one')})"
    assert "The run history no longer has it" in lines[1]
    assert "requested: requeued by alice: disk swapped" in text
    assert "actor: alice" in text
    first = text.index(
        "Device vx-001001-shopz#7 in the host namespace: VNI 4097, UDP port 4789, of network shop"
    )
    second = text.index(
        "Device vxlan0#7 in namespace nsid:4: VNI 4097, UDP port 4789, of no known network"
    )
    told = [
        "found to be an orphan (stale): dead",
        "evidence: DOWN",
        "+7ms  removal written to the journal (stale): dead",
        "+13ms  removed, as the kernel confirmed (stale): reason",
        "stored 3h later",
        "+1.48s  verified: gone at a second look (stale): reason",
    ]
    places = [text.index(words) for words in told]
    assert places == sorted(places)
    assert first < places[0]
    assert places[-1] < second
    assert text.count("evidence: DOWN") == 1


def test_the_story_of_what_happened_without_a_run(
    vxctl: Callable[..., str], database: Database
) -> None:
    (number,) = add(
        database,
        row(
            stage=Stage.PAUSED,
            name=None,
            network=None,
            actor="alice",
            reason="\x1b[2Jdisk",
            evidence=None,
        ),
    )
    subject, line, word = vxctl("show", str(number)).splitlines()[1:]
    assert subject == f"Node one ({swarm_id('one')})"
    assert line.endswith("paused (stale): \\x1b[2Jdisk")
    assert word.strip() == f"actor: alice; row {number}"


def test_counts_for_people(vxctl: Callable[..., str], database: Database) -> None:
    now = datetime.now(UTC)
    add(database, row(now), row(now, node="two"), row(now, node="two", network=None))
    text = vxctl("stats")
    assert text.startswith("3 device(s) removed from ")
    lines = [line.split() for line in text.splitlines()]
    assert lines.index(["two", swarm_id("two"), "2"]) < lines.index(["one", swarm_id("one"), "1"])
    assert ["?", "no", "known", "network", "1"] in lines
    assert json.loads(vxctl("stats", "-o", "json"))["removals"] == 3


class Follower:
    """`vxctl audit --follow` as a real process."""

    def __init__(self, api: Api, *arguments: str, folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", VXCTL, "audit", "--follow", *arguments],
                stdout=out,
                stderr=err,
                env=environment() | {"VXLAN_OPERATOR_URL": api.url},
            )

    def rows(self) -> list[dict[str, Any]]:
        """What it has told by now."""
        return [
            json.loads(line)
            for line in self._out.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]

    def ids(self) -> list[int]:
        """Their ids."""
        return [each["id"] for each in self.rows()]

    def said(self) -> str:
        """What it says besides."""
        return self._err.read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(60)


def test_following_tells_each_row_once_also_late_ones_and_through_a_restart(
    database: Database, tmp_path: Path
) -> None:
    put(database, snapshot())
    give_token(database)
    with Api(database) as api:
        told = list(add(database, *(row(START + timedelta(number)) for number in range(5))))
        with Follower(
            api, "-o", "jsonl", "--limit", "3", "--node", "one", folder=tmp_path
        ) as follower:
            await_true(lambda: follower.ids() == told[2:], "the latest are told, the oldest first")
            told += add(
                database, row(START - timedelta(days=300)), row(START)
            )  # From a journal, late.
            add(database, row(node="two"))
            await_true(lambda: follower.ids() == told[2:], "late rows are told")
            api.__exit__()
            await_true(lambda: "waiting: no controller answers" in follower.said(), "it waits")
            told += add(database, *(row() for _ in range(1500)))
            api.__enter__()
            await_true(lambda: follower.ids() == told[2:], "it goes on where it was")
            follower.process.send_signal(signal.SIGINT)
            assert follower.process.wait(60) == ExitStatus.INTERRUPTED
            assert follower.ids() == told[2:]
            assert follower.said().count("\n") == 1


def test_rows_that_are_stored_while_it_begins_are_told_once(
    api: Api,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored = list(add(database, row(), row()))
    asked = Client.get
    polls = 0

    def get(self: Client, path: str, **parameters: Any) -> Any:
        nonlocal polls
        if parameters.get("after") is not None:
            polls += 1
            if polls == 3:
                raise KeyboardInterrupt
            return asked(self, path, **parameters)
        page = asked(self, path, **parameters | {"limit": 1})
        stored.extend(add(database, row(START - timedelta(1))))  # On the next page.
        return page

    monkeypatch.setattr(Client, "get", get)
    monkeypatch.setattr(audit, "_POLL_SECONDS", 0.0)
    monkeypatch.setenv("VXLAN_OPERATOR_URL", api.url)
    monkeypatch.setattr(sys, "argv", ["vxctl", "audit", "--follow", "-o", "jsonl"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == ExitStatus.INTERRUPTED
    assert ids(capsys.readouterr().out) == stored


def test_a_reader_that_has_seen_enough_ends_it(api: Api, database: Database) -> None:
    add(database, *(row() for _ in range(3000)))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {VXCTL} audit --all -o csv | head -n 2"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment() | {"VXLAN_OPERATOR_URL": api.url, "PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.stdout.count("\n") == 2
    assert done.stderr == ""
