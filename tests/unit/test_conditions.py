"""Which facts make which conditions: every reason, and when a condition last changed."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.messages import KEY_KEPT
from contract.verdicts import HeldBack, Mode, Verdict
from controller.conditions import holds
from controller.conditions.cluster import ClusterFacts, RefusedFacts, of_cluster
from controller.conditions.model import (
    Condition,
    Conditions,
    Reason,
    Status,
    Stored,
    Type,
    dated,
    max_silence,
)
from controller.conditions.node import of_node
from controller.conditions.node_facts import Holder, NodeFacts, Rejecting, Unreplaced
from controller.db.models import Cluster as ClusterRow
from controller.db.models import Network as NetworkRow
from controller.db.models import Node as NodeRow
from controller.db.states import RunState
from tests.fake_clock import START
from tests.unit.test_health import LIVE_REASONS

GOOD = NodeFacts(seen_at=START)
CLUSTER = ClusterFacts(synced_at=START)
SHOP = Rejecting("shop", 4097, START)
ALIVE = Holder("vxlan0 in nsid:4 (/run/docker/netns/1-shop)", Verdict.IN_USE, "holds VNI 4097: why")
DYING = Holder("vx-001001-shopz in host", Verdict.SETTLING, "looks dead: why")
PAUSE = {"paused_at": START, "paused_by": "ann", "paused_reason": "a new kernel"}
(PAUSED,) = holds.of_node(NodeRow(hostname="one", **PAUSE), "one")
(PAUSED_EVERYWHERE,) = holds.of_cluster(ClusterRow(**PAUSE), Mode.ENFORCE)
(IGNORED,) = holds.of_node(NodeRow(hostname="one", label_ignore=True), "one")
(OBSERVED,) = holds.of_node(
    NodeRow(hostname="one", mode=Mode.OBSERVE, mode_by="ann", mode_at=START), "one"
)
(TRIPPED,) = holds.of_node(
    NodeRow(hostname="one", breaker_tripped_at=START, breaker_reason="201 removals in 10 min"),
    "one",
)
(OBSERVED_SHOP,) = holds.of_network(
    NetworkRow(
        name="shop", mode=Mode.OBSERVE, mode_by="bob", mode_at=START, mode_reason="leak 4711"
    ),
    "shop",
)
LIMITED = holds.of_worker(HeldBack.LIMIT, "one", "one", None)
REFUSED_BY_KERNEL = holds.of_worker(HeldBack.FAILED, "one", "one", None)
DOCUMENT = Path(__file__).parents[2] / "docs" / "conditions.md"
ALL_IS_WELL = frozenset(
    {
        Reason.CONVERGED, Reason.NOTHING_WRONG, Reason.PROGRESSING, Reason.NOT_PAUSED, Reason.SWARM_READ,
        Reason.ENFORCING, Reason.ALL_PRESENT, Reason.NOTHING_REFUSED, Reason.ALL_TAKEN,
        Reason.BROKER_ANSWERS, Reason.DATABASE_WRITTEN, Reason.NO_ROWS_LOST, Reason.USERS_KEPT,
    }
)  # fmt: skip
"""Reasons that ask for nothing."""

NO_BROKER = Condition(Status.FALSE, Reason.BROKER_UNREACHABLE, "no broker")

KEY = "0123456789abcdef"
UNTRUSTED: dict[str, Any] = {"seen_at": None, "untrusted": [KEY]}
REFUSED = RefusedFacts(
    counts={"replayed": 2, "unknown_key": 1},
    reason="replayed",
    detail="it came before",
    key=KEY,
    owner="one",
    at=START,
)

NODES: list[tuple[str, dict[str, Any], str]] = [
    ("all is well", {}, "True/Converged False/NothingWrong False/Progressing False/NotPaused"),
    (
        "the Swarm says that it is down",
        {"state": "down", "silent": True},
        "Unknown/NodeDown Unknown/NodeDown True/NodeDown False/NotPaused",
    ),
    (
        "the Swarm does not know, and the worker reports",
        {"state": "unknown"},
        "True/Converged False/NothingWrong False/Progressing False/NotPaused",
    ),
    (
        "its worker shows a key that nobody vouches for",
        UNTRUSTED,
        "Unknown/KeyUntrusted Unknown/KeyUntrusted True/KeyUntrusted False/NotPaused",
    ),
    (
        "its worker's key was revoked",
        {"silent": True, "untrusted": [KEY, "f" * 16], "revoked": True},
        "Unknown/KeyUntrusted Unknown/KeyUntrusted True/KeyUntrusted False/NotPaused",
    ),
    (
        "somebody shows another key, and its worker reports",
        {"untrusted": [KEY]},
        "True/Converged False/NothingWrong False/Progressing False/NotPaused",
    ),
    (
        "no worker was ever seen",
        {"seen_at": None, "last_run": None, "converged_generation": 0},
        "Unknown/NeverSeen Unknown/NeverSeen True/NeverSeen False/NotPaused",
    ),
    (
        "its worker is silent",
        {"silent": True},
        "Unknown/WorkerAway Unknown/WorkerAway True/WorkerAway False/NotPaused",
    ),
    (
        "nobody can hear its worker",
        {"broker": NO_BROKER, "seen_at": None, "silent": True, "last_run": RunState.LOST},
        "Unknown/BrokerUnreachable Unknown/BrokerUnreachable False/Progressing False/NotPaused",
    ),
    (
        "its worker could not be heard until a moment ago",
        {"stale": True},
        "Unknown/NotLookedAt Unknown/NotLookedAt False/Progressing False/NotPaused",
    ),
    (
        "three runs in a row were lost",
        {"last_run": RunState.LOST, "failures": 3},
        "Unknown/WorkerAway Unknown/WorkerAway True/WorkerAway False/NotPaused",
    ),
    (
        "one run was lost",
        {"last_run": RunState.LOST, "failures": 1},
        "Unknown/RunsLost Unknown/RunsLost False/Progressing False/NotPaused",
    ),
    (
        "tasks are rejected, and what holds the VNI is alive",
        {"rejecting": [replace(SHOP, holders=[ALIVE])]},
        "False/VniHeld True/VniHeld True/VniHeld False/NotPaused",
    ),
    (
        "tasks are rejected, and what holds the VNI is settling",
        {"rejecting": [replace(SHOP, holders=[DYING])], "lookalikes": 1},
        "False/TasksRejected True/TasksRejected False/Progressing False/NotPaused",
    ),
    (
        "tasks are rejected, and nothing was found",
        {"rejecting": [SHOP]},
        "False/TasksRejected True/TasksRejected False/Progressing False/NotPaused",
    ),
    (
        "tasks are rejected, and the orphan is left as the mode says",
        {
            "rejecting": [replace(SHOP, holders=[DYING])],
            "orphans": 1,
            "blocking": 1,
            "holds": [OBSERVED],
        },
        "False/ObserveMode True/ObserveMode False/Progressing False/NotPaused",
    ),
    (
        "a device looks dead, without proof",
        {"lookalikes": 1},
        "True/LooksDead True/LooksDead False/Progressing False/NotPaused",
    ),
    (
        "a run failed",
        {"last_run": RunState.FAILED, "failures": 1, "last_error": "no capability"},
        "False/RunFailed True/RunFailed False/Progressing False/NotPaused",
    ),
    (
        "three runs in a row failed",
        {"last_run": RunState.FAILED, "failures": 3, "last_error": "no capability"},
        "False/RunFailed True/RunFailed True/RunFailed False/NotPaused",
    ),
    (
        "a request was refused",
        {"last_run": RunState.REFUSED, "failures": 1, "last_error": "late"},
        "Unknown/RunRefused Unknown/RunRefused False/Progressing False/NotPaused",
    ),
    (
        "three requests in a row were refused",
        {"last_run": RunState.REFUSED, "failures": 3},
        "Unknown/RunRefused Unknown/RunRefused True/RunRefused False/NotPaused",
    ),
    (
        "its networks changed",
        {"generation": 2},
        "False/NotConverged False/NothingWrong False/Progressing False/NotPaused",
    ),
    (
        "paused",
        {"holds": [PAUSED]},
        "Unknown/Paused Unknown/Paused False/Progressing True/Paused",
    ),
    (
        "paused, so that silence means nothing",
        {"holds": [PAUSED], "silent": True, "last_run": RunState.LOST, "failures": 9},
        "Unknown/Paused Unknown/Paused False/Progressing True/Paused",
    ),
    (
        "the cluster is paused",
        {"holds": [PAUSED_EVERYWHERE]},
        "Unknown/ClusterPaused Unknown/ClusterPaused False/Progressing True/ClusterPaused",
    ),
    (
        "ignored",
        {"holds": [IGNORED]},
        "Unknown/IgnoredByLabel Unknown/IgnoredByLabel False/Progressing True/IgnoredByLabel",
    ),
    (
        "a conflict",
        {"conflicts": 1},
        "False/DeviceConflict True/DeviceConflict False/Progressing False/NotPaused",
    ),
    (
        "a blocking orphan is left",
        {"orphans": 2, "blocking": 1},
        "False/OrphansLeft True/OrphansLeft False/Progressing False/NotPaused",
    ),
    (
        "a stale orphan is left",
        {"orphans": 1},
        "True/OrphansLeft True/OrphansLeft False/Progressing False/NotPaused",
    ),
    (
        "a stale orphan is left by the limit of a run",
        {"orphans": 1, "held": [(LIMITED, 1)]},
        "True/OrphansLeft True/OrphansLeft False/Progressing False/NotPaused",
    ),
    (
        "observe mode with a stale orphan: nothing is converged",
        {"orphans": 1, "holds": [OBSERVED]},
        "True/ObserveMode True/ObserveMode False/Progressing False/NotPaused",
    ),
    (
        "observe mode with a blocking orphan",
        {"orphans": 1, "blocking": 1, "holds": [OBSERVED]},
        "False/ObserveMode True/ObserveMode False/Progressing False/NotPaused",
    ),
    (
        "observe mode with nothing to remove",
        {"holds": [OBSERVED]},
        "True/Converged False/NothingWrong False/Progressing False/NotPaused",
    ),
    (
        "the breaker tripped, and nothing is left",
        {"holds": [TRIPPED]},
        "True/Converged False/NothingWrong True/BreakerTripped False/NotPaused",
    ),
    (
        "the breaker tripped, and a blocking orphan is left",
        {"holds": [TRIPPED, OBSERVED], "orphans": 1, "blocking": 1},
        "False/BreakerTripped True/BreakerTripped True/BreakerTripped False/NotPaused",
    ),
    (
        "a network without a device",
        {"missing": ["shop"]},
        "False/NetworkWithoutDevice True/NetworkWithoutDevice False/Progressing False/NotPaused",
    ),
    (
        "the worker keeps a key that it was asked to replace",
        {"unreplaced": Unreplaced(KEY, START), "limitations": [f"{KEY_KEPT}: no room"]},
        "True/Converged True/KeyNotReplaced False/Progressing False/NotPaused",
    ),
    (
        "the worker sends without end",
        {"dropped_since": START, "limitations": ["cannot see nsid 4"]},
        "True/Converged True/TooManyMessages False/Progressing False/NotPaused",
    ),
    (
        "the worker sees not all",
        {"limitations": ["cannot see nsid 4"]},
        "True/Converged True/WorkerLimited False/Progressing False/NotPaused",
    ),
    (
        "the gravest of many goes first",
        {"limitations": ["x"], "missing": ["y"], "conflicts": 1, "generation": 9, "silent": True},
        "Unknown/WorkerAway True/DeviceConflict True/WorkerAway False/NotPaused",
    ),
]

CLUSTERS: list[tuple[str, dict[str, Any], str]] = [
    (
        "no worker can be heard",
        {"broker": NO_BROKER},
        "True/SwarmRead True/Enforcing Unknown/BrokerUnreachable True/NothingRefused True/AllTaken",
    ),
    (
        "all is well",
        {},
        "True/SwarmRead True/Enforcing True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "the Swarm cannot be read",
        {"sync_error": "no leader"},
        "False/SwarmUnreadable True/Enforcing True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "another Swarm",
        {"sync_error": "another one", "sync_reason": "SwarmChanged"},
        "False/SwarmChanged True/Enforcing True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "a list that shrank",
        {"sync_error": "half is gone", "sync_reason": "ListShrunk"},
        "False/ListShrunk True/Enforcing True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "nobody reads",
        {"stale": True},
        "Unknown/ReadingStale True/Enforcing True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "observe",
        {"holds": [OBSERVED]},
        "True/SwarmRead False/ObserveMode True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "the breaker tripped",
        {"holds": [OBSERVED, TRIPPED]},
        "True/SwarmRead False/BreakerTripped True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "paused",
        {"holds": [TRIPPED, PAUSED_EVERYWHERE]},
        "True/SwarmRead False/ClusterPaused True/AllPresent True/NothingRefused True/AllTaken",
    ),
    (
        "a message was refused",
        {"refused": REFUSED},
        "True/SwarmRead True/Enforcing True/AllPresent False/MessagesRefused True/AllTaken",
    ),
    (
        "an unsigned message was refused",
        {"refused": replace(REFUSED, key=None)},
        "True/SwarmRead True/Enforcing True/AllPresent False/MessagesRefused True/AllTaken",
    ),
    (
        "a target does not take notifications",
        {"untaken": ["notification target ops fails"]},
        "True/SwarmRead True/Enforcing True/AllPresent True/NothingRefused False/TargetsFail",
    ),
]

WORKERS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("no nodes", [], "True/AllPresent"),
    ("one of two is away", [{}, {"silent": True}], "False/WorkersAway"),
    ("one of two was never seen", [{}, {"seen_at": None}], "False/WorkersAway"),
    ("one shows a key that nobody vouches for", [{}, UNTRUSTED], "False/WorkersAway"),
    ("all are away", [{"silent": True}, {"seen_at": None}], "False/NoWorkers"),
    ("who is down does not count", [{}, {"state": "down", "silent": True}], "True/AllPresent"),
    ("who is paused does not count", [{}, {"holds": [PAUSED], "silent": True}], "True/AllPresent"),
]


def short(conditions: Conditions) -> str:
    """Status and reason of each condition."""
    return " ".join(f"{each.status}/{each.reason}" for each in conditions.values())


def test_a_node_that_was_down_is_not_said_to_be_while_the_swarm_cannot_be_read() -> None:
    """Its dockerd, or the manager's own, may run again."""
    facts = replace(GOOD, state="down", reports=True)
    assert "reports the node as down" in of_node(facts)[Type.READY].message
    message = of_node(replace(facts, unread_since=START))[Type.READY].message
    assert "reported the node as down when it was last read" in message
    assert "start dockerd" not in message


@pytest.mark.parametrize(("changes", "expected"), [pytest.param(*c[1:], id=c[0]) for c in NODES])
def test_conditions_of_a_node(changes: dict[str, Any], expected: str) -> None:
    found = of_node(replace(GOOD, **changes))
    assert list(found) == ["Ready", "Degraded", "Stalled", "Paused"]
    assert short(found) == expected


@pytest.mark.parametrize(("changes", "expected"), [pytest.param(*c[1:], id=c[0]) for c in CLUSTERS])
def test_conditions_of_the_cluster(changes: dict[str, Any], expected: str) -> None:
    found = of_cluster(replace(CLUSTER, **changes), [("one", of_node(GOOD))])
    assert list(found) == [
        "DesiredStateKnown",
        "RemovalsAllowed",
        "WorkersPresent",
        "MessagesBelieved",
        "NotificationsTaken",
    ]
    assert short(found) == expected


@pytest.mark.parametrize(("nodes", "expected"), [pytest.param(*c[1:], id=c[0]) for c in WORKERS])
def test_whether_workers_are_present(nodes: list[dict[str, Any]], expected: str) -> None:
    conditions = [(f"node{at}", of_node(replace(GOOD, **each))) for at, each in enumerate(nodes)]
    found = of_cluster(CLUSTER, conditions)[Type.WORKERS_PRESENT]
    assert f"{found.status}/{found.reason}" == expected


def test_a_message_names_few_of_many_and_is_bounded() -> None:
    away = of_node(replace(GOOD, silent=True))
    many = [(f"node{number}", away) for number in range(9)]
    message = of_cluster(CLUSTER, [*many, ("well", of_node(GOOD))])[Type.WORKERS_PRESENT].message
    assert "9 of 10 nodes" in message
    assert "node0, node1, node2, node3, node4 and 4 more" in message
    long = of_node(
        replace(GOOD, last_run=RunState.FAILED, last_error="x" * 5000, limitations=["y" * 5000])
    )
    assert all(len(each.message) < 700 for each in long.values())


AT = "2030-01-01 12:00:00 UTC"


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"orphans": 1, "blocking": 1, "holds": [OBSERVED]},
            (
                "not removed: 1 orphan (1 blocking): mode observe of node one, set by ann at "
                f"{AT} (`vxctl mode enforce one` ends it)"
            ),
        ),
        (
            {"orphans": 3, "held": [(LIMITED, 1), (OBSERVED_SHOP, 2)]},
            (
                "not removed: 3 orphans (0 blocking), for 2 reasons: "
                f"1) 2 of them: mode observe of network shop, set by bob at {AT}: leak 4711 "
                "(`vxctl mode enforce --network shop` ends it); "
                "2) 1 of them: the worker of node one: more orphans than a run may remove, "
                "as MAX_REMOVALS_PER_RUN says (the next run goes on)"
            ),
        ),
        (
            {
                "orphans": 3,
                "blocking": 1,
                "holds": [OBSERVED, TRIPPED],
                "held": [(REFUSED_BY_KERNEL, 1), (OBSERVED_SHOP, 2)],
            },
            (
                "not removed: 3 orphans (1 blocking), for 4 reasons: "
                f"1) all: the breaker of node one has tripped at {AT}: 201 removals in 10 min (find out "
                "with `vxctl audit --node one` why so much leaks, then `vxctl breaker reset one`); "
                f"2) all: mode observe of node one, set by ann at {AT} "
                "(`vxctl mode enforce one` ends it); "
                f"3) 2 of them: mode observe of network shop, set by bob at {AT}: leak 4711 "
                "(`vxctl mode enforce --network shop` ends it); "
                "4) 1 of them: the worker of node one: the kernel refused "
                "(the next run tries again; `vxctl audit --node one --stage failed` shows the error)"
            ),
        ),
    ],
    ids=["one cause", "two causes", "four causes"],
)
def test_what_ends_a_cause_stands_directly_behind_it(facts: dict[str, Any], message: str) -> None:
    assert of_node(replace(GOOD, **facts))[Type.DEGRADED].message == message


def test_of_many_causes_a_few_are_told_and_no_command_is_cut() -> None:
    many = [replace(OBSERVED_SHOP, where=f"network n{at}", why="x" * 5000) for at in range(40)]
    message = of_node(replace(GOOD, orphans=1, held=[(hold, 1) for hold in many]))[
        Type.READY
    ].message
    assert message.count("(`vxctl mode enforce --network shop` ends it)") == 4
    assert message.endswith("; and 36 more: `vxctl suppressed` shows all")
    assert len(message) < 1000


def test_a_message_stands_still_while_nothing_changes() -> None:
    """Else each step would write every row that has one."""
    first = of_node(replace(GOOD, silent=True))
    assert "2030-01-01 12:00:00 UTC" in first[Type.READY].message
    assert of_node(replace(GOOD, silent=True)) == first


def test_since_is_when_the_status_changed_and_not_the_reason() -> None:
    before: Stored = {}

    def at(minutes: int, **changes: Any) -> Stored:
        nonlocal before
        before = dated(
            of_node(replace(GOOD, **changes)), before, START + timedelta(minutes=minutes)
        )
        return before

    def since(minutes: int) -> str:
        return (START + timedelta(minutes=minutes)).isoformat()

    assert {each["since"] for each in at(0).values()} == {since(0)}
    assert {each["since"] for each in at(1).values()} == {since(0)}
    ready = at(2, conflicts=1)["Ready"]
    assert (ready["status"], ready["since"]) == ("False", since(2))
    ready = at(3, missing=["shop"])["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "NetworkWithoutDevice")
    assert ready["since"] == since(2)
    assert at(4)["Ready"]["since"] == since(4)
    assert at(5)["Paused"]["since"] == since(0)


@pytest.mark.parametrize(("resync", "silent"), [(1, 30), (10, 30), (60, 180)])
def test_silence_is_three_resync_periods_and_not_too_short(resync: int, silent: int) -> None:
    assert max_silence(timedelta(seconds=resync)) == timedelta(seconds=silent)


@pytest.mark.parametrize(
    ("rejecting", "words"),
    [
        (
            replace(SHOP, holders=[ALIVE]),
            "vxlan0 in nsid:4 (/run/docker/netns/1-shop) holds VNI 4097",
        ),
        (replace(SHOP, holders=[DYING]), "held by vx-001001-shopz in host, settling: looks dead"),
        (SHOP, "the last run saw no device with VNI 4097"),
        (SHOP, "`ip link show | grep vx-001001`"),
        (Rejecting("10.0.9.0/24", None, START, "no network has it"), "no network has it"),
    ],
)
def test_a_node_that_rejects_tasks_is_never_ready_and_the_holder_is_named(
    rejecting: Rejecting, words: str
) -> None:
    ready, degraded, *_ = of_node(replace(GOOD, rejecting=[rejecting])).values()
    assert ready.status is Status.FALSE
    assert degraded.status is Status.TRUE
    assert words in ready.message
    assert "are rejected here" in ready.message


def test_every_reason_is_reachable() -> None:
    found = {
        condition.reason
        for _, changes, _ in NODES
        for condition in of_node(replace(GOOD, **changes)).values()
    }
    well = [("one", of_node(GOOD))]
    for _, changes, _ in CLUSTERS:
        found |= {each.reason for each in of_cluster(replace(CLUSTER, **changes), well).values()}
    for _, nodes, _ in WORKERS:
        its = [("x", of_node(replace(GOOD, **each))) for each in nodes]
        found |= {each.reason for each in of_cluster(CLUSTER, its).values()}
    found |= LIVE_REASONS
    assert found == {reason.value for reason in Reason}


def _first_cells(text: str) -> list[str]:
    return [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]


def test_every_condition_and_each_reason_that_all_is_well_is_documented_once() -> None:
    documented = _first_cells(DOCUMENT.read_text())
    assert sorted(documented) == sorted([*Type, *ALL_IS_WELL])


def test_the_runbook_has_a_section_for_every_other_reason_and_conditions_md_leads_to_it() -> None:
    _, _, conditions = (DOCUMENT.parent / "runbook.md").read_text().partition("\n## Conditions\n")
    sections = conditions.split("\n## ")[0].split("\n### ")[1:]
    found = {section.partition("\n")[0]: section for section in sections}
    assert len(found) == len(sections)
    assert found.keys() == {*Reason} - ALL_IS_WELL
    for name, section in found.items():
        parts = re.findall(r"^\* \*\*(\w+)\*\*", section, re.MULTILINE)
        assert parts == ["Look", "Do", "Worry"], name
        assert f"[{name}](runbook.md#{name.lower()})" in DOCUMENT.read_text()


def test_statuses_are_those_of_kubernetes() -> None:
    assert {each.value for each in Status} == {"True", "False", "Unknown"}
