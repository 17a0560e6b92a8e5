"""Reasons in plain words, and the one sentence of the overview."""

import pytest

from contract.verdicts import Proof, Urgency
from controller.conditions.model import Reason
from controller.views.queries import NodeReady
from controller.web import overview, words
from controller.web.pages import said
from controller.web.words import BAD, CHOSEN, LEFT, OK, UNKNOWN, Action

FINE = {
    "NothingWrong", "Progressing", "NotPaused", "SwarmRead", "Enforcing", "AllPresent", "NothingRefused",
    "AllTaken", "BrokerAnswers", "DatabaseWritten", "NoRowsLost", "UsersKept",
}  # fmt: skip
"""Reasons of conditions that are as they should be, which the overview does not show."""


def test_each_reason_that_is_shown_has_words() -> None:
    assert {reason.value for reason in Reason} - set(words.WORDS) == FINE
    assert set(words.PROOFS) == set(Proof)
    assert set(words.URGENCIES) == set(Urgency)
    assert words.words("SomethingNew") == "SomethingNew"


@pytest.mark.parametrize(
    ("status", "reason", "left", "look"),
    [
        ("True", "Converged", None, OK),
        ("True", "OrphansLeft", "OrphansLeft", LEFT),
        ("True", "ObserveMode", "ObserveMode", CHOSEN),
        ("False", "TasksRejected", None, BAD),
        ("Unknown", "WorkerAway", None, UNKNOWN),
        ("Unknown", "Paused", None, CHOSEN),
    ],
)
def test_a_look_is_of_the_gravest(status: str, reason: str, left: str | None, look: str) -> None:
    assert words.look(status, reason, left) == look


def node(name: str, status: str, reason: str, left: str | None = None) -> NodeReady:
    return NodeReady(name, name, status, reason, left)


def test_nodes_are_grouped_with_the_gravest_first() -> None:
    nodes = [
        node("a", "True", "Converged"),
        node("b", "Unknown", "Paused"),
        node("c", "False", "TasksRejected"),
        node("d", "True", "LooksDead", "LooksDead"),
        node("e", "Unknown", "WorkerAway"),
        node("f", "True", "Converged"),
    ]
    found = overview.groups(nodes, stale=False)
    assert [(group.look, [each.id for each in group.nodes]) for group in found] == [
        (BAD, ["c"]), (UNKNOWN, ["e"]), (LEFT, ["d"]), (CHOSEN, ["b"]), (OK, ["a", "f"]),
    ]  # fmt: skip
    many = [node(name, "False", "NeverSeen") for name in "gh"]
    assert [group.reason for group in overview.groups([*many, *nodes], stale=False)][:2] == [
        "TasksRejected", "NeverSeen",
    ], "tasks that do not run come first, on however few nodes"  # fmt: skip
    (only,) = overview.groups(nodes, stale=True)
    assert (only.look, only.reason, len(only.nodes)) == (UNKNOWN, "ConditionsStale", 6)


@pytest.mark.parametrize(
    ("reason", "node_id", "may", "action"),
    [
        ("Paused", "n1", True, Action("Resume…", "/do/resume?node=n1", acts=True)),
        ("Paused", "n1", False, Action("Look at it", "/safety")),
        ("Paused", None, True, Action("Look at it", "/safety")),
        (
            "BreakerTripped",
            None,
            True,
            Action("Reset the breaker…", "/do/breaker-reset", acts=True),
        ),
        ("TasksRejected", "n1", True, Action("Look at the node", "/nodes/n1")),
        ("TasksRejected", None, True, Action("Look at all nodes", "/matrix")),
    ],
)
def test_the_button_leads_to_the_remedy(
    reason: str, node_id: str | None, may: bool, action: Action
) -> None:
    assert words.action(reason, node_id, may_operate=may) == action


def test_commands_are_code_and_everything_is_escaped() -> None:
    assert said("a `vxctl <b>` c") == "a <code>vxctl &lt;b&gt;</code> c"
    assert said("one ` alone <i>") == "one ` alone &lt;i&gt;"
    assert said("\x1b[31m\u202e") == "\\x1b[31m\\u202e"


def test_times_in_a_sentence_can_be_told_in_the_persons_zone() -> None:
    told = said("<b> ends at 2026-11-27 10:06:23 UTC, or by `vxctl resume a`")
    assert str(told) == (
        '&lt;b&gt; ends at <time datetime="2026-11-27T10:06:23Z" title="2026-11-27 10:06:23 UTC">'
        "2026-11-27 10:06:23 UTC</time>, or by <code>vxctl resume a</code>"
    )
    assert "<time" not in said("`2026-11-27 10:06:23 UTC`")
