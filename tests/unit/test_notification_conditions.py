"""Which conditions call a person: docs/notifications.md says exactly what the code does."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from controller.conditions.cluster import of_cluster
from controller.conditions.model import Reason, Type, dated
from controller.conditions.node import of_node
from controller.db.models import Cluster
from controller.notifications import problems
from controller.notifications.events import Event
from tests.fake_clock import START
from tests.unit import test_conditions as facts
from tests.unit.test_health import LIVE_REASONS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()


def documented() -> Iterator[tuple[str, str]]:
    """Each reason with the event that it is told as; an empty one: it is not."""
    table = DOCUMENT.partition("## Which conditions call a person")[2].partition("\n## ")[0]
    for reasons, event in re.findall(r"^\| (\[.*?) \| (.*?) \|", table, re.MULTILINE):
        for reason, anchor in re.findall(r"\[(\w+)\]\(runbook\.md#(\w+)\)", reasons):
            assert anchor == reason.lower()
            yield reason, "" if event == "not told" else event.strip("`")


def found() -> dict[str, set[str]]:
    """The same of the conditions of all facts that `tests.unit.test_conditions` knows."""
    events: defaultdict[str, set[str]] = defaultdict(set)
    for _, changes, _ in facts.NODES:
        conditions = of_node(replace(facts.GOOD, **changes))
        stored = dated(conditions, {}, START)
        tripped = conditions[Type.STALLED].reason == Reason.BREAKER_TRIPPED
        for event, message in problems._of_node(stored, START if tripped else None, "201"):
            reasons = {each.reason for each in conditions.values() if each.message == message}
            events[min(reasons, default=Reason.BREAKER_TRIPPED)].add(event)
    for _, changes, _ in facts.CLUSTERS:
        conditions = of_cluster(replace(facts.CLUSTER, **changes), [])
        tripped = conditions[Type.REMOVALS_ALLOWED].reason == Reason.BREAKER_TRIPPED
        cluster = Cluster(
            conditions=dated(conditions, {}, START), breaker_tripped_at=START if tripped else None
        )
        for event, message in problems._of_cluster(cluster):
            reasons = {each.reason for each in conditions.values() if each.message == message}
            events[min(reasons, default=Reason.BREAKER_TRIPPED)].add(event)
    return events


def test_the_document_says_which_conditions_call_a_person_and_which_do_not() -> None:
    said = dict(documented())
    # Derived from the targets themselves.
    assert said.pop(Reason.TARGETS_FAIL) == Event.TARGET_FAILS
    told = {reason: {event} for reason, event in said.items() if event}
    # No test of conditions makes Redis refuse: it is a reason of the broker's own.
    assert told.pop(Reason.BROKER_REFUSES) == {Event.BROKER_UNREACHABLE}
    assert found() == told


def test_every_condition_that_is_not_as_it_should_be_is_in_the_document() -> None:
    of_processes = {*LIVE_REASONS, *facts.ALL_IS_WELL, Reason.CONDITIONS_STALE}
    others = {reason.value for reason in Reason} - {str(reason) for reason in of_processes}
    listed = [reason for reason, _ in documented()]
    assert sorted({*listed} - {"BrokerUnreachable", "BrokerRefuses"}) == sorted(
        others - {"BrokerUnreachable", "BrokerRefuses"}
    )
    assert len(listed) == len({*listed})
