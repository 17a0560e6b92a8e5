"""`vxctl status`, `get` and `describe` against the real API, with names that mean harm."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from sqlalchemy import update

from contract import VERSION
from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode, Outcome, Verdict
from controller.api import IDENTITY_HEADER
from controller.cli import main
from controller.cli.output.widths import cells
from controller.cli.status import _show as show_status
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Node
from controller.runs.reports import ReportIntake
from controller.swarm.store import note_failure
from tests.api_client import shared_app
from tests.controller_process import VXCTL, environment, free_port
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, node, snapshot, swarm_id, task
from tests.reports import believed, device, report
from tests.servers import await_true
from tests.stored import RESYNC, claim, put
from tests.tokens import give_token

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe"
LONG = "x" * 300
WIDE = "節点" * 40
SWARM = snapshot(
    "one",
    "two",
    replace(node("evil"), hostname=HOSTILE),
    replace(node("long"), hostname=LONG),
    replace(node("wide"), hostname=WIDE),
    node("down", state="down"),
    networks=[INGRESS, SHOP, MAIL, replace(network("evilnet", 5003, 5004), name=HOSTILE)],
    tasks=[task("t1", "one", "shop"), task("t2", "evil", "evilnet")],
)
_OURS = re.compile(r"\x1b\[(H|2J|K|J|\?7[lh]|[0-9;]*m)")
"""What we send to a terminal."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    """The API over a database with six nodes, listening."""
    put(database, SWARM)
    give_token(database)
    runs = claim(database)
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)

    def tell(name: str, **told: Any) -> None:
        run = runs[swarm_id(name)].run_id
        intake.reports([believed(report(run, node=name, **told))])

    tell("one", devices=[device(1), device(2, Verdict.ORPHAN)])
    tell("two", limitations=(f"cannot see {HOSTILE}",))
    tell("long", outcome=Outcome.FAILED, error=f"no {HOSTILE}")
    with database.write() as session:
        session.execute(
            update(Node)
            .where(Node.id == swarm_id("wide"))
            .values(paused_at=START, paused_by=HOSTILE, paused_reason="x" * 400)
        )
        note_failure(session, f"no {HOSTILE}", START)
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: START).step()
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            shared_app(database),
            port=port,
            headers=[(IDENTITY_HEADER, VERSION)],
            log_level="error",
            lifespan="off",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        await_true(lambda: server.started, "the API is served")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def says(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `vxctl` in this process; return what it says."""

    def run(*arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["vxctl", *arguments, "--url", url])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        assert (caught.value.code or 0) == status, said.err
        return said.out

    return run


def columns_of(line: str) -> list[str]:
    """The cells of a row, which are at least two blanks apart."""
    return re.split(r"\s{2,}", line.strip())


def test_status(says: Callable[..., str]) -> None:
    lines = says("status", status=ExitStatus.NO).splitlines()
    assert lines[0] == (
        "Not well: DesiredStateKnown is False (SwarmUnreadable); WorkersPresent is False (WorkersAway); "
        "BrokerReachable is Unknown (NotProbed); DatabaseWritable is Unknown (NotProbed); "
        "AuditKept is Unknown (NotProbed); "
        "2 of 6 nodes not ready (1 OrphansLeft, 1 RunFailed); "
        "3 of 6 nodes unknown (1 NeverSeen, 1 NodeDown, 1 Paused); "
        "something is left on 1 node that is ready (1 WorkerLimited)."
    )
    assert lines[1].startswith("SwarmUnreadable: no \\x1b[2J")
    assert lines[2].startswith("WorkersAway: 1 of 4 nodes have no worker that reports (evil")
    (swarm,) = [line for line in lines if line.startswith("Swarm ")]
    assert swarm.startswith(f"Swarm {swarm_id('swarm')}, mode enforce, read ")
    assert "(stale), data path port" in swarm
    header = next(at for at, line in enumerate(lines) if line.startswith("NODE"))
    assert columns_of(lines[header]) == [
        "NODE", "READY", "SINCE", "REASON", "GENERATION", "WORKER", "LAST RUN", "DEVICES", "NEXT RUN",
        "MODE",
    ]  # fmt: skip
    rows = {columns_of(line)[0]: columns_of(line) for line in lines[header + 1 : header + 7]}
    assert rows["one"][1:2] + rows["one"][3:5] == ["False", "OrphansLeft", "2/2"]
    assert rows["one"][7] == "2 (1 orphan)"
    assert rows["down"][1:2] + rows["down"][3:6] == ["Unknown,down", "NodeDown", "0/2", "never"]
    assert rows["down"][-2:] == ["-", "-"]
    assert rows["two"][1:2] + rows["two"][3:4] == ["True", "WorkerLimited"]
    # Who is ready comes last.
    assert columns_of(lines[header + 6])[0] == "two"
    troubles = lines[3:header]
    assert any(line.startswith("one: OrphansLeft: not removed: 1 orphan") for line in troubles)
    assert any(line.startswith("two: WorkerLimited: ") for line in troubles)


@pytest.mark.parametrize("oldest", ["oldest_look_at", "conditions_at", "synced_at"])
def test_all_is_well_says_how_old_that_is(oldest: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    looks = dict.fromkeys(["oldest_look_at", "conditions_at", "synced_at"], now.isoformat())
    looks[oldest] = (now - timedelta(seconds=42)).isoformat()
    cluster = {"conditions": [], "swarm_id": "s", "data_path_port": 4789} | looks
    answer = {
        "cluster": cluster, "readiness": {"True": {"Converged": 3}}, "left_on_ready": {}, "nodes": [],
        "paused": False, "effective_mode": "enforce", "mode_reasons": [],
    }  # fmt: skip
    show_status(answer | looks, "table")
    assert re.match(
        r"All is well, as seen up to (4[2-9]|[5-9]\d)s ago: 3 of 3 nodes are ready\.\n",
        capsys.readouterr().out,
    )


def test_status_of_many_says_how_many_more(says: Callable[..., str]) -> None:
    assert "and 4 more: `vxctl get nodes`" in says("status", "--limit", "2", status=ExitStatus.NO)


def test_get_nodes(says: Callable[..., str]) -> None:
    lines = says("get", "nodes").splitlines()
    assert len(lines) == 7
    assert columns_of(lines[0])[:3] == ["NODE", "READY", "SINCE"]
    wide = says("get", "nodes", "-o", "wide").splitlines()
    assert {len(columns_of(line)) for line in wide} == {len(columns_of(wide[0]))}
    assert {"GENERATION", "ID", "VERSION", "MODE"} < set(columns_of(wide[0]))
    assert any("paused" in line for line in wide)
    found = json.loads(says("get", "nodes", "-o", "json"))
    assert {each["hostname"] for each in found} >= {HOSTILE, LONG, WIDE}
    assert says("get", "nodes", "--ready", "True").splitlines()[1].startswith("two")


def test_get_goes_through_all_pages(
    says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for what in ("nodes", "networks", "devices", "runs"):
        whole = json.loads(says("get", what, "-o", "json"))
        assert len(whole) > 1
        with monkeypatch.context() as patch:
            patch.setattr("controller.cli.client.PAGE_ROWS", 1)
            assert json.loads(says("get", what, "-o", "json")) == whole
            assert json.loads(says("get", what, "-o", "json", "--limit", "2")) == whole[:2]


def test_get_says_when_there_are_more_rows(
    says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    says("get", "nodes", "--limit", "6")
    says("get", "nodes", "--limit", "5", "-o", "json")
    assert stderr.getvalue() == ""
    says("get", "nodes", "--limit", "5")
    assert stderr.getvalue() == "the first 5; --limit for more\n"


def test_get_networks_devices_and_runs(says: Callable[..., str]) -> None:
    networks = says("get", "networks").splitlines()
    assert any(
        columns_of(line)[1:4] == [swarm_id("evilnet"), "5003,5004", "1"] for line in networks
    )
    assert len(says("get", "devices", "--verdict", "orphan").splitlines()) == 2
    orphan = columns_of(says("get", "devices", "--verdict", "orphan").splitlines()[1])
    assert orphan[:6] == ["one", "vx-001001-shopz#2", "host", "4097", "shop", "orphan/blocking"]
    assert len(says("get", "devices", "--network", "shop", "--node", "one").splitlines()) == 3
    assert says("get", "devices", "--node", "two") == "no such devices\n"
    assert len(says("get", "runs", "--state", "failed").splitlines()) == 2
    assert len(says("get", "runs", "-o", "wide", "--node", "one").splitlines()) == 2


def test_describe_node(says: Callable[..., str]) -> None:
    said = says("describe", "node", "one")
    for words in (
        "Generation: 2 (last attempted 2, last converged 2)",
        "OrphansLeft",
        "vx-001001-shopz#2",
        f"task {swarm_id('t1')}",
        "new node; desired state changed",
    ):
        assert words in said
    assert "by \\x1b[2J" in says("describe", "node", swarm_id("wide"))
    assert "Error:" in says("describe", "node", swarm_id("long"))
    assert json.loads(says("describe", "node", "one", "-o", "json"))["hostname"] == "one"


def test_describe_network(says: Callable[..., str]) -> None:
    said = says("describe", "network", swarm_id("evilnet"))
    assert "VNI:     5003, 5004" in said
    assert "Attachments: 1" in said
    assert json.loads(says("describe", "network", "shop", "-o", "json"))["vnis"] == [4097]


def test_explain(says: Callable[..., str]) -> None:
    said = says("explain", f"one: error creating vxlan interface: file exists {HOSTILE}")
    assert "Swarm rejects each task" in said
    assert f"It is about node one ({swarm_id('one')})." in said
    assert "On node one" in said
    assert "vx-001001-shopz (ifindex 2) in host has VNI 4097, orphan: reason" in said
    assert "What to do" in said
    assert json.loads(says("explain", "whatever", "-o", "json"))["recognised"] is False


VIEWS = [
    ("explain", f"error creating vxlan interface: file exists wide {HOSTILE}"),
    ("status",),
    ("get", "nodes"),
    ("get", "nodes", "-o", "wide"),
    ("get", "networks", "-o", "wide"),
    ("get", "devices", "-o", "wide"),
    ("get", "runs", "-o", "wide"),
    ("describe", "node", "long"),
    ("describe", "node", "wide"),
    ("describe", "network", "evilnet"),
]


def test_no_name_drives_the_terminal(says: Callable[..., str]) -> None:
    for view in VIEWS:
        said = says(*view, status=ExitStatus.NO if view == ("status",) else ExitStatus.DONE)
        assert all(each.isprintable() or each == "\n" for each in said), view


class OnTerminal:
    """`vxctl` on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int, lines: int, **variables: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            # Whoever runs the tests in the background ignores SIGINT, and that is inherited.
            ["env", "--default-signal=INT", VXCTL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment() | {"TERM": "xterm", "PAGER": "cat"} | variables,
        )
        os.close(slave)

    def read(self, until: Callable[[str], bool]) -> str:
        """What it writes until that is enough, or it ends."""
        said = b""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not until(said.decode(errors="replace")):
            ready, _, _ = select.select([self._master], [], [], 0.2)
            if not ready:
                continue
            try:
                more = os.read(self._master, 65536)
            except OSError:
                break
            if not more:
                break
            said += more
        return said.decode(errors="replace")


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_on_a_terminal_nothing_gets_through(url: str, columns: int) -> None:
    for view in (("status",), ("get", "nodes"), ("describe", "node", swarm_id("evil"))):
        terminal = OnTerminal(*view, "--url", url, columns=columns, lines=24)
        said = terminal.read(lambda _: False)
        assert terminal.process.wait(20) == (ExitStatus.NO if view == ("status",) else 0)
        plain = _OURS.sub("", said).replace("\r\n", "\n")
        assert all(each.isprintable() or each == "\n" for each in plain)
        assert "\\x1b[2J" in plain


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_colours_are_for_terminals_that_want_them(url: str) -> None:
    def said(**variables: str) -> str:
        view = ("get", "nodes", "--url", url)
        terminal = OnTerminal(*view, columns=120, lines=50, **variables)
        text = terminal.read(lambda _: False)
        assert terminal.process.wait(20) == 0
        return text

    assert _COLOUR.search(said())
    assert not _COLOUR.search(said(NO_COLOR="1"))
    assert "\x1b" not in said(TERM="dumb")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_longer_than_the_terminal_goes_to_the_pager(url: str, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\nexec cat\n")
    pager.chmod(0o755)

    def said(*options: str, lines: int, pager: str = str(pager)) -> str:
        view = ("get", "nodes", "--url", url, *options)
        terminal = OnTerminal(*view, columns=120, lines=lines, PAGER=pager)
        text = terminal.read(lambda _: False)
        assert terminal.process.wait(20) == 0
        assert "two" in text
        return text

    assert said(lines=4).startswith("PAGED")
    assert "PAGED" not in said(lines=50)
    assert "PAGED" not in said("--no-pager", lines=4)
    # One that is missing, and one that has seen enough, are no error.
    assert "Traceback" not in said(lines=4, pager="/nowhere/pager")
    terminal = OnTerminal("get", "nodes", "--url", url, columns=120, lines=4, PAGER="head -1")
    assert "NODE" in terminal.read(lambda _: False)
    assert terminal.process.wait(20) == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_watch_on_a_terminal_ends_cleanly(url: str) -> None:
    terminal = OnTerminal("status", "--watch", "--url", url, columns=80, lines=12)
    end = "\x1b[J"
    # One read may bring more than one picture, on a busy machine.
    first, second, *_ = terminal.read(lambda said: said.count(end) >= 2).split(end)
    for picture in (first.split("\x1b[2J")[1] + end, second + end):
        assert len(picture.splitlines()) <= 11
        assert "more lines" in picture
    terminal.process.send_signal(signal.SIGINT)
    rest = terminal.read(lambda _: False)
    assert terminal.process.wait(20) == ExitStatus.INTERRUPTED
    assert "Traceback" not in rest
    assert "\x1b[?7h" in rest


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_default_table_fits_80_columns_and_no_id_is_broken(url: str) -> None:
    views = (
        ("status",), ("get", "nodes"), ("get", "networks"), ("get", "devices"), ("get", "runs"), ("audit",),
        ("breaker",), ("describe", "node", "one"), ("describe", "node", swarm_id("long")), ("events",),
        ("describe", "network", "evilnet"), ("diff",), ("plan", "one"), ("audit", "stats"),
        ("suppressed",),
    )  # fmt: skip
    for view in views:
        terminal = OnTerminal(*view, "--url", url, columns=80, lines=1000)
        said = terminal.read(lambda _: False)
        assert terminal.process.wait(20) in (0, ExitStatus.NO), said
        lines = _COLOUR.sub("", said).replace("\r\n", "\n").splitlines()
        tables = [
            (at, line)
            for at, line in enumerate(lines)
            if re.match(r"([A-Z]+ ?)+( {2,}[A-Z]|$)", line)
        ]
        for at, heading in tables:
            rows = []
            for line in lines[at + 1 :]:
                if "  " not in line:  # The end of the table, or sentences below it.
                    break
                rows.append(line)
            assert max(map(cells, [heading, *rows]), default=0) <= 80, (view, heading, rows)
        for whole in re.findall(r"\b[a-z]+z{12,}\b", "\n".join(lines)):
            assert len(whole) == 25, (view, whole)


def test_sorting_headings_names_and_formats(says: Callable[..., str]) -> None:
    names = [row["hostname"] for row in json.loads(says("get", "nodes", "-o", "json"))]
    by_name = json.loads(says("get", "nodes", "-o", "json", "--sort-by", "-.hostname"))
    assert [row["hostname"] for row in by_name] == sorted(names, reverse=True)
    last = json.loads(says("get", "no", "-o", "json", "--sort-by", "last_run.at"))
    assert last[-1]["last_run"] is None
    assert len(says("get", "nodes", "--no-headers").splitlines()) == 6
    named = says("get", "nodes", "-o", "name").splitlines()
    assert "node/one" in named
    # What a shell would take apart is named by its id.
    assert f"node/{swarm_id('evil')}" in named
    for name in named:
        assert json.loads(says("get", "node", name, "-o", "json"))["id"]
    assert yaml.safe_load(says("get", "nodes", "-o", "yaml")) == json.loads(
        says("get", "nodes", "-o", "json")
    )
    lines = says("get", "nodes", "-o", "jsonl").splitlines()
    assert [json.loads(line)["hostname"] for line in lines] == names
    table = list(csv.reader(io.StringIO(says("get", "nodes", "-o", "csv"))))
    assert table[0][:2] == ["id", "hostname"]
    assert len(table) == 7
    for kind in ("net", "dev", "run", "networks", "devices"):
        assert says("get", kind, "-o", "name").splitlines()[0].split("/")[0] in (
            "network", "device", "run",
        )  # fmt: skip


@pytest.mark.parametrize("output", ["wide", "json", "jsonl", "yaml", "csv"])
def test_every_view_has_every_format(says: Callable[..., str], output: str) -> None:
    for view in VIEWS:
        if "-o" in view:
            continue
        status = ExitStatus.NO if view == ("status",) else ExitStatus.DONE
        said = says(*view, "-o", output, status=status)
        assert said
        assert all(char.isprintable() or char in "\n\r" for char in said), view
        match output:
            case "json":
                json.loads(said)
            case "jsonl":
                assert [json.loads(line) for line in said.splitlines()]
            case "yaml":
                assert yaml.safe_load(said) is not None
            case "csv":
                assert len(list(csv.reader(io.StringIO(said)))) > 1


def test_wrong_sorting_and_names_are_told(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (("get", "nodes", "--sort-by", "nosuch"), "there is no such field"),
        (("version", "-o", "name"), "this has no name"),
        (("get", "nodes", "one", "-w"), "-w follows a list"),
    ):
        monkeypatch.setattr(sys, "argv", ["vxctl", *arguments, "--url", url])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == ExitStatus.USAGE
        assert words in capsys.readouterr().err
