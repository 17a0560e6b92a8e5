"""What is found in an error text, however it was cut, wrapped, coloured, quoted and logged."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.explain.clues import clues
from controller.explain.offline import shortened
from controller.explain.reading import (
    MAX_GROUPS,
    Finding,
    TooLongError,
    grouped,
    read,
    same,
)
from controller.explain.text import MAX_TEXT, clean
from controller.swarm.faults import is_leak

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CREATING = "error creating vxlan interface: file exists"
SUBNET = "10.0.11.0/24"
MESSAGE = f'network sandbox join failed: subnet sandbox join failed for "{SUBNET}": {CREATING}'
NODE = "n0de5abcdefghijklmnopqrst"
TASK = "t4sk5abcdefghijklmnopqrst"
LOGGED = (
    'time="2026-11-26T10:00:00.5Z" level=error msg="fatal task error" error="'
    + MESSAGE.replace('"', '\\"')
    + f'" module=node/agent/taskmanager node.id={NODE} task.id={TASK}'
)


def findings(text: str) -> list[tuple[str, bool]]:
    return [(each.about.id, each.certain) for each in read(text, NOW).findings]


def only(text: str) -> Finding:
    (found,) = read(text, NOW).findings
    return found


LEAK, CUT = [("leaked-device", True)], [("leaked-device", False)]


@pytest.mark.parametrize(
    "text",
    [
        MESSAGE,
        CREATING.replace("vxlan", "VXLAN"),
        LOGGED,
        f"Nov 26 10:00:01 mgr-1 dockerd[812]: {LOGGED}",
        f"<27>1 2026-11-26T10:00:01.5+01:00 mgr-1 dockerd 812 - - {LOGGED}",
        json.dumps({"level": "error", "error": MESSAGE, "node.id": NODE}),
        json.dumps({"log": LOGGED + "\n", "stream": "stderr", "time": "2026-11-26T10:00:00Z"}),
        f"Erro ao iniciar o serviço: {MESSAGE.replace(chr(34), '')}",
        f"Fehler beim Start:\n{MESSAGE}",
        MESSAGE.replace("interface: ", "interface:\n"),
        MESSAGE.replace(" ", "\u00a0"),
        MESSAGE.replace('"', "\u201d"),
        MESSAGE.replace('"', "&quot;"),
        f"\u201e{MESSAGE}\u201c",
        MESSAGE.replace("vxlan", "\x1b[01;31m\x1b[Kvxlan\x1b[m\x1b[K"),
        MESSAGE.replace("vxlan", "#033[31mvxlan#033[0m"),
        MESSAGE.replace("vxlan", "\\u001b[31mvxlan\\u001b[0m"),
        MESSAGE.replace("vxlan", "^[[31mvxlan^[[0m"),
        f"\x1b]8;;file:///x\x1b\\{MESSAGE}\x1b]8;;\x1b\\",
        MESSAGE.replace("sandbox", "sand\u200bbox"),
        MESSAGE.replace(": ", ":\t").replace("\n", "\r\n"),
        "> " + MESSAGE[:70] + "\r\n> " + MESSAGE[70:],
        f"$ docker service update --force web\nweb\n1/1: {MESSAGE}",
        f"docker: Error response from daemon: {MESSAGE}.\nERRO[0000] error waiting for container",
        f'overlay: failed to add peer entry: error="{CREATING}" ifc=vx-00100b-abcde'.replace(
            "failed to add peer entry", "peer entry"
        ),
        "x" * 9_000 + " " + MESSAGE,
        MESSAGE + " " + "x" * 9_000,
    ],
)
def test_the_fault_is_recognised_in_any_dress(text: str) -> None:
    assert findings(text) == LEAK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n ",
        "hello",
        "Internal server error",
        "no such image: shop",
        "vxlan add failed: Failed to add vxlan koko1234: file exists",
        "failed to create macvlan interface: file exists",
        "Failed creating ingress network: network not found\nopen /run/x: file exists",
        'vxlan interface creation failed for subnet "10.0.1.0/24": no memory\nmkdir /x: file exists',
        "error creating vxlan interface\nmkdir /srv: file exists",
        "network sandbox",
        "networks and sandboxes are joined; failed: so what...",
        "starting container failed: exec format error",
        "Error response from daemon: network s...",
    ],
)
def test_what_is_not_the_fault_raises_no_alarm(text: str) -> None:
    assert findings(text) == []


def test_what_the_controller_takes_for_the_fault_is_recognised_here_too() -> None:
    for text in (MESSAGE, LOGGED, f"Failed creating ingress network: {MESSAGE}", CREATING.upper()):
        assert is_leak(text)
        assert findings(text) == LEAK
    assert findings(f"Failed to create testvxlan interface: {CREATING}") == [("probe", True)]


@pytest.mark.parametrize(
    ("text", "subnet"),
    [
        ('"network sandbox join failed: s\u2026"', None),
        ("error creating vxl...", None),
        (f'1/1: network sandbox join failed: subnet sandbox join failed for "{SUBNET}":\u2026 ', SUBNET),
        ('network sandbox join failed: subnet sandbox join failed for "10.0.11.0/2', None),
        ("starting container failed: sub\u2026", None),
        (f'\u2026join failed: subnet sandbox join failed for "{SUBNET}": error creat\u2026', SUBNET),
        ("\u2026xlan interface: file exists", None),
        ("Nov 26 10:00:01 mgr-1 dockerd[812]: network sandbox join failed: subnet sandbox jo>", None),
        ('t4sk5abcdefg web.1 img two Ready Rejected 3 s ago "network sandbox join failed: s\u2026"', None),
    ],
)  # fmt: skip
def test_a_message_that_was_cut_is_probably_the_fault(text: str, subnet: str | None) -> None:
    found = only(text)
    assert (found.about.id, found.certain, found.subnet) == ("leaked-device", False, subnet)


def test_a_cut_beginning_that_goes_on_otherwise_is_not_the_fault() -> None:
    text = (
        'network sandbox join failed: subnet sandbox join failed for "10.0.1.0/24": no memory left'
    )
    assert findings(text) == []
    text = text.replace("no memory left", "2 errors occurred: * could not install mangle rule")
    assert findings(text) == [("mangle-rule", True)]


@settings(max_examples=400, deadline=None)
@given(
    length=st.integers(18, len(MESSAGE)),
    ending=st.sampled_from(["", "...", "\u2026", '"', '\u2026"', " ", ">", "\n"]),
    before=st.sampled_from(["", "1/1: ", '"', "node1 | ", "Nov 26 10:00:01 mgr-1 dockerd[812]: "]),
    width=st.integers(20, 200),
)
def test_wherever_the_message_is_cut_and_wrapped_it_is_not_called_another_error(
    length: int, ending: str, before: str, width: int
) -> None:
    text = before + MESSAGE[:length] + ending
    wrapped = "\n".join(text[start : start + width] for start in range(0, len(text), width))
    assert findings(wrapped) in (LEAK, CUT)


@settings(max_examples=200, deadline=None)
@given(begin=st.integers(0, len(MESSAGE) - len("vxlan interface: file exists")))
def test_whatever_is_missing_before_it_the_end_is_enough(begin: int) -> None:
    assert findings(MESSAGE[begin:]) in (LEAK, CUT)
    assert findings("\u2026" + MESSAGE[begin:]) in (LEAK, CUT)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=2_000))
def test_any_text_is_read(text: str) -> None:
    found = read(text, NOW)
    assert grouped(found.findings, same)[1] == 0
    clues(clean(text), NOW)


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.sampled_from(
    [*'"\\\n\x1b[<>{}:./- \u2026', MESSAGE, CREATING, "node ", "vx-00100b-abcde", "web.1", "on ", LOGGED]
), max_size=30))  # fmt: skip
def test_any_mixture_is_read(pieces: list[str]) -> None:
    for each in read("".join(pieces), NOW).findings:
        assert each.line >= 1
        assert each.quote


ROWS = f"""\
ID             NAME      IMAGE     NODE           DESIRED STATE   CURRENT STATE            ERROR
{TASK}   web.1     nginx:1   qa-server-01   Ready   Rejected 3 seconds ago    "{MESSAGE}"
abcdefghijkl5mnopqrstuvwx  \\_ web.1   nginx:1   qa-server-01   Shutdown  Rejected 8 seconds ago   "{MESSAGE}"
"""


def test_rows_of_docker_service_ps() -> None:
    first, second = read(ROWS, NOW).findings
    assert first.clues.nodes == second.clues.nodes == ("qa-server-01",)
    assert first.clues.tasks == (TASK,)
    assert first.clues.service == second.clues.service == "web"
    assert first.clues.words == ()
    assert first.clues.time is not None
    assert first.clues.time.at == NOW - timedelta(seconds=3)
    (group,), more = grouped((first, second), same)
    assert (group.count, more, len(group.tasks)) == (2, 0, 2)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (f"Nov 26 10:00:01 mgr-1 dockerd[812]: {MESSAGE}", "mgr-1"),
        (f"2026-11-26T10:00:01.5+01:00 mgr-1 dockerd[812]: {MESSAGE}", "mgr-1"),
        (f"{MESSAGE} on node n0de5abcdefg", "n0de5abcdefg"),
        (f"{MESSAGE} on mgr-1.example.org.", "mgr-1.example.org"),
        (f"UBSWARM7-BOX1: {MESSAGE}", "ubswarm7-box1"),
        (f"root@mgr-1:~# docker run x\n{MESSAGE}", "mgr-1"),
        (f"[root@mgr-1 srv]# docker run x\n{MESSAGE}", "mgr-1"),
        (json.dumps({"_HOSTNAME": "mgr-1", "MESSAGE": MESSAGE}), "mgr-1"),
        (LOGGED, NODE),
        (f"level=error node.name=mgr-1 error={MESSAGE}", "mgr-1"),
    ],
)
def test_where_a_node_is_named(text: str, node: str) -> None:
    assert node in only(text).clues.nodes


def test_an_ordinary_word_is_no_name() -> None:
    found = only(f"connection closed by server; {CREATING} on qa-1").clues
    assert found.nodes == ("qa-1",)
    assert found.words == ("qa-1",)
    assert "server" in only(f"{CREATING} on server").clues.nodes


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("vx-00100b-abcde", "docker-device", "vx-00100b-abcde"),
        ("what is vx-00100b-abcde?", "docker-device", "vx-00100b-abcde"),
        ("5659: vx-00100b-abcde: <BROADCAST,MULTICAST> mtu 1450 state DOWN\n    link/ether 02:42:0a:00:0b:01",
         "docker-device", "vx-00100b-abcde"),
        ("3: vxlan0@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 master br0 state UNKNOWN",
         "docker-sandbox-device", "vxlan0"),
        ("testvxlan", "docker-probe", "testvxlan"),
        ("7: vxlan.calico: <UP> mtu 1410", "calico", "vxlan.calico"),
        ("8: vx-submariner: <UP> mtu 1410", "other-device", "vx-submariner"),
    ],
)  # fmt: skip
def test_a_device_is_a_question(text: str, kind: str, name: str) -> None:
    found = only(text)
    assert found.device is not None
    assert (found.about.id, found.device.name) == (kind, name)


def test_other_devices_of_the_list_are_not_asked_about() -> None:
    assert findings("1: lo: <LOOPBACK,UP> mtu 65536\n2: eth0@if9: <UP> mtu 1500") == []


def test_vnis_and_subnets() -> None:
    named = only("VNI: 4107 and vxlan id 4108, vx-00100d-abcde").clues
    assert named.vnis == (4107, 4108, 4109)
    assert clues("99999999 vni 99999999", NOW).vnis == ()
    assert clues("from 10.0.1.0/24 and fd00:1::/64", NOW).subnets == ("10.0.1.0/24", "fd00:1::/64")


@pytest.mark.parametrize(
    ("text", "at", "exact"),
    [
        ("2026-11-26T10:00:00Z x", "2026-11-26T10:00:00+00:00", True),
        ("2026-11-26T10:00:00.25+02:00 x", "2026-11-26T08:00:00.250000+00:00", True),
        ("2026-11-26 10:00:00 -0330 x", "2026-11-26T13:30:00+00:00", True),
        # A clock of an unknown time zone: the latest that it can mean, and not later than now.
        ("2026-11-25 10:00:00 x", "2026-11-25T22:00:00+00:00", False),
        ("2026-11-26 11:00:00 x", "2026-11-26T12:00:00+00:00", False),
        ("Nov 25 10:00:00 mgr-1 x", "2026-11-25T22:00:00+00:00", False),
        ("Dec 24 10:00:00 mgr-1 x", "2025-12-24T22:00:00+00:00", False),
        ("Rejected 5 minutes ago", "2026-11-26T11:55:00+00:00", False),
        ("Rejected about an hour ago", "2026-11-26T11:00:00+00:00", False),
        ("Rejected less than a second ago", "2026-11-26T12:00:00+00:00", False),
        # Of several the latest: a task was made before it was rejected.
        (
            '"CreatedAt": "2020-01-01T00:00:00Z", "Timestamp": "2026-11-26T10:00:00Z"',
            "2026-11-26T10:00:00+00:00",
            True,
        ),
        (
            "created 2020-01-01T00:00:00Z, Rejected 5 minutes ago",
            "2026-11-26T11:55:00+00:00",
            False,
        ),
        (
            'Nov 26 10:00:00 mgr-1 x: {"CreatedAt": "2020-01-01T00:00:00Z"}',
            "2026-11-26T12:00:00+00:00",
            False,
        ),
        ("2 hours ago ... 5 minutes ago", "2026-11-26T11:55:00+00:00", False),
        (
            'Feb 21 16:00:00 mgr-1 dockerd[7]: time="2018-02-21T16:00:00Z"',
            "2018-02-21T16:00:00+00:00",
            True,
        ),
        # A line of syslog, and dockerd's time in it: one moment, and only the second says its zone.
        (
            'Nov 26 10:00:00 mgr-1 dockerd[7]: time="2026-11-26T09:00:00+01:00"',
            "2026-11-26T08:00:00+00:00",
            True,
        ),
    ],
)
def test_when_a_line_was_written(text: str, at: str, exact: bool) -> None:
    found = clues(text, NOW).time
    assert found is not None
    assert (found.at.isoformat(), found.exact) == (at, exact)


@pytest.mark.parametrize(
    "text", ["2026-13-45T99:99:99Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_a_time_that_cannot_be(text: str) -> None:
    assert clues(text, NOW).time is None


def test_a_log_is_grouped() -> None:
    lines = [
        LOGGED.replace("10:00:00", f"10:{number // 60:02}:{number % 60:02}").replace(
            TASK, f"t{number:024}"
        )
        for number in range(1_000)
    ]
    noise = 'time="2026-11-26T10:00:00Z" level=info msg="nothing of note"'
    (group,), more = grouped(read("\n".join([noise, *lines, noise]), NOW).findings, same)
    assert (group.count, more) == (1_000, 0)
    assert group.first == datetime(2026, 11, 26, 10, 0, 0, 500_000, tzinfo=UTC)
    assert group.last == datetime(2026, 11, 26, 10, 16, 39, 500_000, tzinfo=UTC)
    assert group.finding.line == 1_001
    assert len(group.tasks) == 20


def test_two_faults_in_lines_without_times_are_two() -> None:
    found = read(f"{MESSAGE}\n{MESSAGE.replace('.11.', '.12.')}", NOW).findings
    assert [each.subnet for each in found] == [SUBNET, "10.0.12.0/24"]


def test_many_groups_are_bounded() -> None:
    lines = [f"2026-11-26T10:00:00Z node{number}: {MESSAGE}" for number in range(300)]
    groups, more = grouped(read("\n".join(lines), NOW).findings, same)
    assert (len(groups), more) == (MAX_GROUPS, 300 - MAX_GROUPS)


def test_a_line_has_not_the_time_of_another() -> None:
    found = only(
        f"2020-01-01T00:00:00Z mgr-1 dockerd[7]: API listen on /run/docker.sock\n\n{MESSAGE}"
    )
    assert found.clues.time is None
    assert found.clues.hosts == ("mgr-1",)


@pytest.mark.parametrize("length", [100, 99_990, 100_010, 250_000, 900_000])
def test_a_fault_is_found_wherever_it_is_in_a_long_line(length: int) -> None:
    text = f"2026-11-26T10:00:00Z mgr-1 x: {'y ' * (length // 2)}{MESSAGE} {'z ' * 10_000}"
    found = only(text)
    assert (found.about.id, found.certain, found.line) == ("leaked-device", True, 1)
    assert "file exists" in found.quote or length == 100
    assert len(found.quote) <= 410


@pytest.mark.parametrize("size", [MAX_TEXT // 2, 3 * MAX_TEXT])
def test_a_long_line_is_made_short_around_its_fault(size: int) -> None:
    text = f"{'y ' * (size // 2)}{MESSAGE}{' z' * (size // 2)}"
    short = shortened(text, NOW)
    assert len(short) <= MAX_TEXT
    assert findings(short)[:1] == LEAK


@pytest.mark.parametrize("every", [1, 2, 7])
def test_a_long_log_that_is_made_short_counts_each_line_once(every: int) -> None:
    noise = "2026-11-26T10:00:00Z mgr-1 kernel: nothing " + "x" * 160
    fault = f"2026-11-26T10:00:00Z mgr-1 dockerd[7]: {MESSAGE}"
    lines = [fault if n < 500 * every and n % every == 0 else noise for n in range(9_000)]
    text = "\n".join(lines)
    assert len(text) > MAX_TEXT
    (group,), more = grouped(read(shortened(text, NOW), NOW).findings, same)
    assert (group.count, more) == (500, 0)


def test_what_stands_around_a_fault_in_a_long_line_is_read() -> None:
    found = only(f"{'y ' * 50_000} on node n7 {MESSAGE} {'z ' * 50_000}")
    assert found.subnet == SUBNET
    assert "n7" in found.clues.nodes


@pytest.mark.parametrize("before", ["{n} ", "{n}: ", "   {n}  ", "{n}:", "{n}|"])
def test_numbers_before_all_lines_are_no_part_of_them(before: str) -> None:
    lines = ["Nov 26 10:00:00 mgr-1 dockerd[7]: x " + MESSAGE[:70], MESSAGE[70:]]
    found = only("\n".join(before.format(n=98 + n) + line for n, line in enumerate(lines)))
    assert (found.about.id, found.certain) == ("leaked-device", True)


def test_what_is_normal_is_told_only_without_a_fault() -> None:
    moves = "two kernel: vxlan0: renamed from vx-001001-shopz"
    assert findings(moves) == [("device-moves", True)]
    assert findings(f"{moves}\n{MESSAGE}\n{moves}") == LEAK


def test_a_device_that_is_up_is_another_question() -> None:
    line = "9: vx-001001-shopz: <BROADCAST,MULTICAST{}> mtu 1450"
    assert findings(line.format("")) == [("docker-device", True)]
    assert findings(line.format(",UP,LOWER_UP")) == [("docker-device-up", True)]


def test_a_text_that_is_too_long_is_refused_by_its_length() -> None:
    with pytest.raises(TooLongError, match="at most"):
        read("x" * (MAX_TEXT + 1), NOW)


HOSTILE = [
    "vxlan interface creation failed for subnet ", "failed creating ingress network: ", "a", "a.1 b ready ",
    "\\", '"', "1.2.3.", "network sandbox join failed: s... ", f"{CREATING} ", "\x1b[", "\x1b]", "&#1", "vx-",
    "1: a: <", "2026-01-01T00:00:00", "a@a:", "\u2026", "a\n", "{", "...",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_is_proportional_to_the_text(piece: str) -> None:
    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        begin = time.process_time()
        read(text, NOW)
        return time.process_time() - begin

    # Quadratic: sixteen times the text takes 256 times as long.
    small = max(min(seconds(60_000) for _ in range(3)), 0.002)
    assert seconds(960_000) < 100 * small
